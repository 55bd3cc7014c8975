//! Names of machines → a network of them: a namespace of this kernel for each, on a cable of its own to the one in which the test goes on.

use crate::repository::run;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What has a network of its own: a process that waits, and so keeps the namespace.
#[derive(Debug)]
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut keeper = Command::new("unshare");
        // It says that it is there, and ends with the test.
        keeper.args(["--net", "--kill-child", "sh", "-c", "ip link set lo up && echo there && exec cat"]);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare can be run");
        let mut said = [0; 6];
        std::io::Read::read_exact(keeper.stdout.as_mut().expect("stdout"), &mut said)
            .expect("a namespace, for which a test is root");
        Self(keeper)
    }

    fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network whose middle is where master and agents are.
#[derive(Debug)]
pub struct Network {
    machines: Vec<Namespace>,
    _middle: Namespace,
}

impl Network {
    /// One of so many machines. The thread of the test, and what it starts from now on, is in the middle of it, and nowhere else.
    ///
    /// # Panics
    /// Where the kernel gives no namespaces: a test is root.
    pub fn enter(machines: u8) -> Self {
        let middle = Namespace::new();
        let file = File::open(middle.file()).expect("a namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("its thread is there");
        let mut network = Self { machines: Vec::new(), _middle: middle };
        for number in 0..machines {
            let machine = Namespace::new();
            let (here, process) = (Self::cable(number), machine.0.id().to_string());
            ip(&["link", "add", &here, "type", "veth", "peer", "name", "eth0", "netns", &process]);
            network.machines.push(machine);
            ip(&["address", "add", &format!("{}/24", Self::middle(number)), "dev", &here]);
            ip(&["link", "set", &here, "up"]);
            for words in [
                &["address", "add", &format!("10.77.{number}.2/24"), "dev", "eth0"][..],
                &["link", "set", "eth0", "up"],
            ] {
                run(network.command(number, Path::new("ip")).args(words));
            }
        }
        network
    }

    /// What the middle is called by a machine.
    pub fn middle(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, number, 1)
    }

    /// What starts a program at a machine.
    pub fn command(&self, number: u8, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.machines[usize::from(number)].file())).arg("--").arg(program);
        command
    }

    /// Pulls the cable of a machine, or plugs it in: nothing that is sent on it arrives, and nobody is told.
    pub fn pull(&self, number: u8, pulled: bool) {
        ip(&["link", "set", &Self::cable(number), if pulled { "down" } else { "up" }]);
    }

    fn cable(number: u8) -> String {
        format!("cable{number}")
    }
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words));
}
