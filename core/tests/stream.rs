//! Lengths at both ends of a stream against what is sent, appended and acknowledged.

use sai_core::stream::{Accept, StreamReceiver, StreamSender};

fn sender(length: u64) -> StreamSender {
    let mut sender = StreamSender::new();
    sender.grow(length);
    sender
}

#[test]
fn what_was_flushed_late_is_not_sent_again() {
    // 100 bytes went over a link that broke; the receiver had flushed 40 of them when it greeted, the rest later.
    let mut sender = sender(120);
    assert!(sender.resume(40));
    assert!(sender.ack(100));
    assert_eq!((sender.acked(), sender.in_flight()), (100, 0));
    assert_eq!(sender.next(1000), Some((100, 20)));
    assert!(!sender.ack(121), "bytes that do not exist");
}

#[test]
fn pieces_follow_each_other_and_end_at_the_length() {
    let mut sender = sender(100);
    assert_eq!(sender.next(0), None);
    assert_eq!(sender.next(60), Some((0, 60)));
    assert_eq!(sender.next(60), Some((60, 40)));
    assert_eq!(sender.next(60), None);
    assert_eq!((sender.in_flight(), sender.acked()), (100, 0));
    sender.grow(90);
    assert_eq!((sender.next(60), sender.length()), (None, 100));
    sender.grow(101);
    assert_eq!(sender.next(60), Some((100, 1)));
}

#[test]
fn acks_only_go_forward() {
    let mut sender = sender(100);
    sender.next(100);
    assert!(sender.ack(70));
    assert!(sender.ack(30));
    assert_eq!((sender.acked(), sender.in_flight()), (70, 30));
}

#[test]
fn resuming_goes_back_to_what_the_receiver_has() {
    let mut sender = sender(100);
    sender.next(100);
    assert!(sender.ack(50));
    assert!(sender.resume(50));
    assert_eq!(sender.next(100), Some((50, 50)));
    assert!(!sender.resume(101), "more than was ever written");
}

#[test]
fn a_receiver_takes_each_byte_once_and_leaves_no_gap() {
    let mut receiver = StreamReceiver::at(10);
    assert_eq!(receiver.offer(11, 5), Accept::Gap);
    assert_eq!(receiver.offer(u64::MAX, 5), Accept::Gap);
    assert_eq!(receiver.offer(0, 10), Accept::Old);
    assert_eq!(receiver.offer(4, 10), Accept::Append { skip: 6 });
    assert_eq!(receiver.offer(14, 6), Accept::Append { skip: 0 });
    assert_eq!((receiver.length(), receiver.durable()), (20, 10));
}

#[test]
fn only_flushed_bytes_are_news() {
    let mut receiver = StreamReceiver::at(0);
    receiver.offer(0, 20);
    assert!(receiver.flushed(5));
    assert!(!receiver.flushed(5));
    assert!(!receiver.flushed(3));
    assert!(receiver.flushed(20));
    assert!(!receiver.flushed(99), "a file that is longer than what was appended is no news");
    assert_eq!(receiver.durable(), 20);
}
