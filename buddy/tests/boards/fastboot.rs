//! Loaders that speak fastboot, and images, over a bus that changes, shortens, loses and refuses what is transferred → what is in their
//! partitions.

use crate::dfu::{Ended, Fault, Kind, carry};
use crate::gadget::Fastboot;
use crate::line::image;
use sai_buddy::flash::fastboot::{self, Settings};
use sai_buddy::flash::{Flashed, Output, Whose};

fn settings() -> Settings {
    Settings {
        partition: "boot".into(),
        room: None,
        expects: vec![("product".into(), "panda".into()), ("version".into(), "0.4".into())],
        verifies: false,
        go: true,
    }
}

fn flash(settings: Settings, image: &[u8], loader: &mut Fastboot, fault: Option<Fault>) -> Ended {
    carry(&mut fastboot::Fastboot::new(settings, image.to_vec()).expect("an image"), loader, fault)
}

#[test]
fn images_get_into_partitions_and_are_called_unverified() {
    for length in [1, 511, 512, 16 * 1024, 100_000] {
        let image = image(length);
        let mut loader = Fastboot { words: vec!["erasing".into(), String::new()], ..Fastboot::new() };
        let ended = flash(settings(), &image, &mut loader, None);
        assert_eq!(ended.result, Ok(Flashed { chip: None, verified: false }), "{length}");
        assert!(loader.partitions["boot"] == image && loader.rebooted);
        assert!(ended.said.contains(&Output::Note("the loader says: erasing".into())));
        // A loader that need not tell anything of itself.
        let mut loader = Fastboot::new();
        loader.variables.clear();
        let ended =
            flash(Settings { expects: Vec::new(), verifies: true, go: false, ..settings() }, &image, &mut loader, None);
        assert_eq!(ended.result, Ok(Flashed { chip: None, verified: true }));
        assert!(loader.partitions["boot"] == image && !loader.rebooted);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let image = image(1000);
    for (name, value, whose, text) in [
        ("product", "moose", Whose::Wiring, "the loader's product is \"moose\", not \"panda\""),
        ("max-download-size", "0x3e7", Whose::Image, "the loader takes 999 at once"),
        ("partition-size:boot", "0x3E7", Whose::Image, "there is room for 999"),
    ] {
        let mut loader = Fastboot::new();
        loader.variables.insert(name.into(), value.into());
        let failure = flash(settings(), &image, &mut loader, None).result.expect_err(text);
        assert!(failure.whose == whose && failure.text.contains(text), "{failure:?}");
        assert!(failure.text.contains("nothing was erased"), "{failure:?}");
        assert!(loader.partitions["boot"].is_empty());
    }
    for (partition, broken, text) in [
        ("root", false, "to write partition root: partition does not exist"),
        ("boot", true, "to write partition boot: flash write failure"),
    ] {
        let mut loader = Fastboot { broken, ..Fastboot::new() };
        let settings = Settings { partition: partition.into(), ..settings() };
        let failure = flash(settings, &image, &mut loader, None).result.expect_err(text);
        assert!(failure.whose == Whose::Board && failure.text.contains(text), "{failure:?}");
    }
    let mut loader = Fastboot { pulled_after: Some(16_000), ..Fastboot::new() };
    let ended = flash(settings(), &crate::line::image(50_000), &mut loader, None);
    let failure = ended.result.expect_err("a pulled plug");
    assert!(failure.whose == Whose::Wiring && failure.text.contains("nothing was written"), "{failure:?}");
}

#[test]
fn no_fault_of_one_transfer_has_no_end_or_is_hidden() {
    let image = image(20_000);
    let transfers = flash(settings(), &image, &mut Fastboot::new(), None).transfers;
    let kinds = [
        Kind::Flip(0, 0x20),
        Kind::Flip(4, 0x01),
        Kind::Flip(11, 0x04),
        Kind::Half,
        Kind::Long,
        Kind::Double,
        Kind::Stall,
        Kind::Late,
        Kind::Gone,
    ];
    for fault in (0..transfers).flat_map(|at| kinds.map(|kind| (at, kind))) {
        let result = flash(settings(), &image, &mut Fastboot::new(), Some(fault)).result;
        // What is changed on the way into the loader's memory nobody can know: that is why it is unverified.
        assert!(!result.as_ref().is_ok_and(|flashed| flashed.verified), "{fault:?}");
        assert!(result.is_err() || !matches!(fault.1, Kind::Stall | Kind::Late), "{fault:?}");
    }
    // One that talks on and on.
    let mut loader = Fastboot { words: vec!["x".into(); 10_001], ..Fastboot::new() };
    let ended = flash(settings(), &image, &mut loader, None);
    assert!(ended.result.is_err_and(|failure| failure.text.contains("talks on and on")));
    assert!(ended.said.iter().filter(|said| matches!(said, Output::Note(_))).count() <= 64);
}
