//! `sai-agent image` on real roots: made, changed, interrupted at each stage, in use and removed.
//!
//! Only root can make images; whoever else runs these tests sees them refused.
#![cfg(feature = "nspawn")]

mod common;
mod roots;

use common::{World, until};
use roots::{busybox, debian};
use sai_agent::container::{Container, Network, Runner, Upper};
use sai_agent::image::{emulation, scan, users};
use sai_agent::job_directory::JobDirectory;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn agent() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sai-agent"))
}

/// A directory of images in a world of its own; `None` where nobody may make any, which is checked then.
fn images(name: &str) -> Option<(World, PathBuf)> {
    let world = World::new(&format!("images-{name}"));
    let images = world.path.join("images");
    if rustix::process::geteuid().is_root() {
        return Some((world, images));
    }
    let output = image(&images, &["create", "os", "--from-dir", "/"]);
    assert_eq!(status(&output), 1);
    assert!(told(&output).contains("only root"), "{}", told(&output));
    None
}

fn command(images: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(agent());
    command.arg("image").args(words).arg("--images").arg(images).stdin(Stdio::null());
    command
}

fn image(images: &Path, words: &[&str]) -> Output {
    command(images, words).output().expect("sai-agent can be run")
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs what has to succeed.
fn done(images: &Path, words: &[&str]) {
    let output = image(images, words);
    assert_eq!(status(&output), 0, "{words:?}: {}\n{}", told(&output), String::from_utf8_lossy(&output.stdout));
}

/// What a shell in an image prints, and the status.
fn shell(images: &Path, words: &[&str], script: &str) -> (i32, String) {
    let words: Vec<&str> = ["shell"].iter().chain(words).copied().collect();
    let mut child = command(images, &words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("a shell that reads");
    let output = child.wait_with_output().expect("a shell that ends");
    (status(&output), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines of `image list`, each divided at its spaces.
fn list(images: &Path) -> Vec<Vec<String>> {
    let output = image(images, &["list"]);
    assert_eq!(status(&output), 0, "{}", told(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines().map(|line| line.split_whitespace().map(ToString::to_string).collect());
    let headings: Option<Vec<String>> = lines.next();
    assert_eq!(headings.expect("headings"), ["PLATFORM", "MIB", "AGE", "JOBS", "LAYERS"]);
    lines.collect()
}

fn names(images: &Path) -> Vec<String> {
    list(images).into_iter().filter_map(|line| line.into_iter().next()).collect()
}

/// A root in which nothing can run, for what does not run anything.
fn small_root(world: &World) -> String {
    let root = world.path.join("small");
    fs::create_dir_all(root.join("bin")).expect("a directory");
    fs::write(root.join("bin/sh"), "").expect("a file");
    root.display().to_string()
}

/// Whether anything beside the images is left in their directory.
fn left_over(images: &Path) -> Vec<String> {
    let entries = fs::read_dir(images).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(users::NEW) || name.starts_with(users::OLD)).collect()
}

/// A job that runs, as far as anybody can see, in an image: its directory says so.
fn job_in(world: &World, images: &Path, platform: &str) -> JobDirectory {
    users::register(images, &"0".repeat(32), &world.path.join("state")).expect("an agent");
    let directory = JobDirectory::create(&world.jobs(), &world.assignment(&["true"])).expect("a job");
    let found = scan::scan(images).images.into_iter().find(|image| image.platform == platform).expect("an image");
    let mut options = directory.options().expect("options");
    options.container = Some(Container {
        runner: Runner::Bwrap,
        layers: found.layers.iter().map(|layer| layer.display().to_string()).collect(),
        upper: Upper::Disk,
        upper_mib: None,
        network: Network::Host,
        binds: Vec::new(),
        devices: None,
        memory_mib: None,
        cpu_permille: None,
        pids: None,
        root: None,
    });
    directory.set_options(&options).expect("options");
    directory
}

#[test]
fn two_releases_are_two_platforms_with_packages_of_their_own() {
    let Some((_world, images)) = images("releases") else { return };
    for (suite, platform, version) in
        [("bookworm", "linux-debian-12/any/make", "12"), ("trixie", "linux-debian-13/any/make", "13")]
    {
        let root = debian(suite).display().to_string();
        done(&images, &["create", platform, "--from-dir", &root, "--packages", "make"]);
        let script =
            ". /etc/os-release; echo $VERSION_ID; make --version | head -n 1; id -u -n sai; echo x > /etc/marker";
        let (status, said) = shell(&images, &[platform], script);
        assert_eq!(status, 0, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(
            matches!(lines[..], [release, make, "sai"] if release == version && make.starts_with("GNU Make")),
            "{said}"
        );
        let place = images.join(platform);
        assert!(!place.join("base/usr/bin/make").exists() && place.join("env/usr/bin/make").exists());
        assert!(!place.join("base/etc/marker").exists() && !place.join("env/etc/marker").exists());
    }
    let rows = list(&images);
    assert_eq!(names(&images), ["linux-debian-12/any/make", "linux-debian-13/any/make"]);
    assert!(rows.iter().all(|row| row.len() == 5 && row[1].parse::<u64>().is_ok_and(|mib| mib > 50)), "{rows:?}");
    assert_eq!(rows[0][4], "linux-debian-12/any/make/base,linux-debian-12/any/make/env");
    assert_eq!(left_over(&images), Vec::<String>::new());
}

#[test]
fn an_image_is_shared_changed_and_brought_up_to_date() {
    let Some((world, images)) = images("changed") else { return };
    let root = debian("bookworm").display().to_string();
    done(&images, &["create", "os/any/plain", "--from-dir", &root]);
    // What a shell ends with decides.
    let script = "echo kept > /etc/marker; rm /etc/debian_version; exit ";
    assert_eq!(shell(&images, &["os/any/plain", "--commit"], &format!("{script} 3")).0, 3);
    assert!(!images.join("os/any/plain/env").exists());
    assert_eq!(shell(&images, &["os/any/plain", "--commit"], &format!("{script} 0")).0, 0);
    let look = "cat /etc/marker; test ! -e /etc/debian_version; echo $?; exit 5";
    assert_eq!(shell(&images, &["os/any/plain"], look), (5, "kept\n0\n".to_string()));
    // Another over the same base, and neither sees the other's env.
    done(&images, &["create", "os/any/make", "--on", "os/any/plain", "--packages", "make"]);
    assert_eq!(list(&images)[0][4], "os/any/plain/base,os/any/make/env");
    let (_, said) = shell(&images, &["os/any/make"], "test ! -e /etc/marker; echo $?; command -v make");
    assert_eq!(said, "0\n/usr/bin/make\n");
    let output = image(&images, &["remove", "os/any/plain"]);
    assert!(status(&output) == 4 && told(&output).contains("os/any/make needs"), "{}", told(&output));
    // A job goes on in the env that it began in.
    let job = job_in(&world, &images, "os/any/make");
    done(&images, &["update", "os/any/make", "--packages", "bc"]);
    let (_, said) = shell(&images, &["os/any/make"], "command -v make bc");
    assert_eq!(said, "/usr/bin/make\n/usr/bin/bc\n");
    let [old] = left_over(&images).try_into().expect("one old env");
    assert!(images.join(&old).join("env/usr/bin/make").exists() && !images.join(&old).join("env/usr/bin/bc").exists());
    job.forget().expect("the job's end");
    done(&images, &["remove", "os/any/make"]);
    assert_eq!((left_over(&images), names(&images)), (Vec::new(), vec!["os/any/plain".to_string()]));
    done(&images, &["remove", "os/any/plain"]);
    assert!(!images.join("os").exists());
}

/// Waits for a line on the standard error of a child.
fn await_line(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) {
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        if line.contains(text) {
            return;
        }
        seen.push(line);
    }
    panic!("nothing said {text:?} but:\n{}", seen.join("\n"));
}

/// Processes that work in a directory of images, or have a mount there.
fn at_work(images: &Path) -> Vec<String> {
    let needle = images.as_os_str().as_encoded_bytes();
    let names = |file: PathBuf| fs::read(file).is_ok_and(|text| text.windows(needle.len()).any(|part| part == needle));
    let all = fs::read_dir("/proc").expect("processes").flatten();
    all.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok()))
        .filter(|entry| names(entry.path().join("cmdline")) || names(entry.path().join("mounts")))
        .filter(|entry| common::lives(entry.file_name().to_string_lossy().parse().unwrap_or_default()))
        .map(|entry| String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).into_owned())
        .collect()
}

fn begin(images: &Path, words: &[&str], stage: &str) -> Child {
    let mut child = command(images, words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sai-agent");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    await_line(&mut lines, stage);
    // What it says from here on has somewhere to go, so that it is not ended by a pipe that nobody reads.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn creation_killed_at_any_stage_leaves_nothing_that_is_offered() {
    let Some((world, images)) = images("killed") else { return };
    let root = debian("bookworm").display().to_string();
    let from_release = ["create", "os/any/x", "--debootstrap", "bookworm", "--packages", "make"];
    let from_root = ["create", "os/any/x", "--from-dir", &root];
    let further = ["create", "os/any/x", "--on", "any/base-12", "--packages", "make"];
    done(&images, &["create", "any/base-12", "--from-dir", &root]);
    for (words, stage) in [
        (&from_release[..], "base: bookworm"),
        (&from_root, "base: a copy"),
        (&further, "env: asking"),
        (&further, "env: make"),
    ] {
        let mut child = begin(&images, words, stage);
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        until(&format!("all that worked is gone after {stage}"), || at_work(&images).is_empty());
        assert_eq!(names(&images), ["any/base-12"], "{stage}");
        assert!(!images.join("os").exists(), "{stage}");
    }
    assert_eq!(left_over(&images), [".new-os=any=x"]);
    assert_eq!(users::sweep(&images).expect("a sweep"), [".new-os=any=x"]);
    // Asked to end, it takes its own leavings away.
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut child = begin(&images, &further, "env: asking");
        sai_agent::process_tree::signal(i32::try_from(child.id()).expect("a number"), signal);
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
        assert_eq!((left_over(&images), names(&images)), (Vec::new(), vec!["any/base-12".to_string()]));
        until("all that worked is gone", || at_work(&images).is_empty());
    }
    // Nothing of all this is in the way.
    done(&images, &["create", "os/any/x", "--from-dir", &small_root(&world)]);
    assert_eq!(names(&images), ["any/base-12", "os/any/x"]);
}

/// The cgroups of the machine that trials of images have, those of other tests too.
fn groups_of_trials() -> Vec<PathBuf> {
    let groups = fs::read_dir("/sys/fs/cgroup/pids").into_iter().flatten().flatten().map(|group| group.path());
    let of_a_trial =
        |group: &PathBuf| group.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sai-trial-"));
    groups.filter(of_a_trial).collect()
}

#[test]
fn an_image_is_tried_and_what_cannot_be_run_is_told() {
    let Some((world, images)) = images("tried") else { return };
    let alpine = busybox(&world.path.join("alpine"));
    let output = image(&images, &["create", "alpine", "--from-dir", alpine.to_str().expect("text")]);
    assert!(status(&output) == 0 && told(&output).contains("alpine is ready"), "{}", told(&output));
    assert!(!told(&output).contains("cannot be run"), "{}", told(&output));
    let output = image(&images, &["create", "empty", "--from-dir", &small_root(&world)]);
    for program in ["systemd-nspawn", "bwrap"] {
        let complaint = format!("empty cannot be run by {program}: ");
        assert!(told(&output).contains(&complaint), "{}", told(&output));
        let listed = told(&image(&images, &["list"]));
        assert!(listed.contains(&complaint) && !listed.contains("alpine cannot"), "{listed}");
    }
    assert!(status(&output) == 0 && told(&output).contains("empty is made, but no job can run in it"));
    // What is mended is tried again.
    fs::copy("/bin/busybox", images.join("empty/base/bin/sh")).expect("a shell");
    let (found, said) = shell(&images, &["empty", "--commit"], "exit 0\n");
    assert_eq!(found, 0, "{said}");
    let listed = told(&image(&images, &["list"]));
    assert!(!listed.contains("cannot be run"), "{listed}");
    assert_eq!(left_over(&images), Vec::<String>::new());
    // Other tests try images at this moment, and their groups go by themselves; one that was left would stay.
    for group in groups_of_trials() {
        until(&format!("{} is gone", group.display()), || !group.exists());
    }
}

#[test]
fn nothing_that_a_job_uses_is_removed() {
    let Some((world, images)) = images("used") else { return };
    let root = small_root(&world);
    done(&images, &["create", "os/any/x", "--from-dir", &root]);
    done(&images, &["create", "os/any/y", "--from-dir", &root]);
    let job = job_in(&world, &images, "os/any/x");
    let key = job.key().to_string();
    let output = image(&images, &["remove", "os/any/x"]);
    assert!(
        status(&output) == 4 && told(&output).contains(&format!("job {key} runs in os/any/x")),
        "{}",
        told(&output)
    );
    assert_eq!(names(&images), ["os/any/x", "os/any/y"]);
    done(&images, &["remove", "os/any/y"]);
    // A directory that cannot be read might be a job's that runs.
    let options = fs::read(job.path().join("options")).expect("options");
    fs::write(job.path().join("options"), "{").expect("a file");
    let output = image(&images, &["remove", "os/any/x"]);
    assert!(status(&output) == 1 && told(&output).contains("cannot be told"), "{}", told(&output));
    fs::write(job.path().join("options"), options).expect("a file");
    job.forget().expect("the job's end");
    done(&images, &["remove", "os/any/x"]);
    assert!(!images.join("os").exists());
    assert_eq!(status(&image(&images, &["remove", "os/any/x"])), 2);
}

#[test]
fn hostile_roots_reach_nothing_outside() {
    let Some((world, images)) = images("hostile") else { return };
    let (root, victim) = (world.path.join("root"), world.path.join("victim"));
    let outside = world.path.join("outside");
    fs::create_dir_all(root.join("bin")).expect("a directory");
    fs::create_dir_all(&outside).expect("a directory");
    fs::write(root.join("bin/sh"), "").expect("a file");
    fs::write(&victim, "untouched").expect("a file");
    // The user's lines would be added here, its home be made there.
    fs::create_dir(root.join("etc")).expect("a directory");
    for name in ["passwd", "group", "shadow"] {
        symlink(&victim, root.join("etc").join(name)).expect("a link");
    }
    symlink(&outside, root.join("home")).expect("a link");
    let archive = world.path.join("a:b.tar");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--force-local", "-P", "--transform=s,^evil,../../../../evil,", "--file"]).arg(&archive);
    fs::write(root.join("evil"), "evil").expect("a file");
    let output = tar.current_dir(&root).args(["bin", "etc", "home", "evil"]).output().expect("tar can be run");
    assert!(output.status.success(), "{}", told(&output));
    let archive = archive.display().to_string();
    for words in [
        ["create", "from/tar", "--from-tar", &archive],
        ["create", "from/dir", "--from-dir", &root.display().to_string()],
    ] {
        let output = image(&images, &words);
        assert!([0, 1].contains(&status(&output)), "{}", told(&output));
        assert_eq!(fs::read_to_string(&victim).expect("a file"), "untouched");
        assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0);
    }
    let above =
        [&images, &world.path, Path::new("/tmp"), Path::new("/")].map(|directory| directory.join("evil").exists());
    assert_eq!(above, [false; 4]);
    assert_eq!(left_over(&images), Vec::<String>::new());
}

#[test]
fn what_cannot_be_meant_is_said_with_what_is_expected() {
    let Some((world, images)) = images("usage") else { return };
    let small = small_root(&world);
    done(&images, &["create", "os", "--from-dir", &small]);
    let empty = world.path.join("empty");
    fs::create_dir(&empty).expect("a directory");
    let empty = empty.display().to_string();
    for (words, code, text) in [
        (&["create"][..], 2, "expected one of --debootstrap"),
        (&["create", "--from-dir", &small], 2, "name of a platform"),
        (&["create", "../x", "--from-dir", &small], 2, "platform name"),
        (&["create", "a/base/b", "--from-dir", &small], 2, "without the part base"),
        (&["create", "a/b/c/d", "--from-dir", &small], 2, "at most 3 parts"),
        (&["create", "os", "--from-dir", &small], 2, "there already"),
        (&["create", "x", "--from-dir", &small, "--from-tar", &small], 2, "expected one of"),
        (&["create", "x", "--from-dir", "/no/such/place"], 1, "No such file"),
        (&["create", "x", "--from-tar", &small], 2, "expected a tar archive"),
        (&["create", "x", "--from-dir", &empty], 1, "has no /bin/sh"),
        (&["create", "x", "--from-dir", "/"], 2, "does not hold the images themselves"),
        (&["create", "x", "--from-dir", &world.path.display().to_string()], 2, "does not hold the images"),
        (&["create", "x", "--on", "y"], 2, "there is no image y"),
        (&["create", "x", "--debootstrap", "--help"], 0, ""),
        (&["create", "x", "--debootstrap", "$(reboot)"], 2, "name of a release"),
        (&["create", "x", "--debootstrap", "bookworm", "--mirror", "--x"], 2, "address of a mirror"),
        (&["create", "x", "--debootstrap", "bookworm", "--arch", "z80"], 1, "one of the architectures amd64"),
        (&["create", "x", "--from-dir", &small, "--packages", "make -o x"], 2, "name of a package"),
        (&["create", "x", "--from-dir", &small, "--arch", "arm64"], 2, "about --debootstrap"),
        (&["create", "x", "--from-dir", &small, "--nonsense"], 2, "not understood"),
        (&["create", "x", "--from-dir", &small, "--packages", "make"], 1, "has not"),
        (&["update", "y"], 2, "there is no image y"),
        (&["shell", "y"], 2, "there is no image y"),
        (&["remove", "y"], 2, "there is no image y"),
        (&["remove"], 2, "name of a platform"),
        (&["list", "x"], 2, "not understood"),
        (&["rescan"], 1, "no agent that runs"),
        (&["paint", "x"], 2, "no command image paint"),
    ] {
        let output = image(&images, words);
        assert!(status(&output) == code && told(&output).contains(text), "{words:?}: {}", told(&output));
        assert_eq!((names(&images), left_over(&images)), (vec!["os".to_string()], Vec::new()), "{words:?}");
    }
    assert_eq!(Command::new(agent()).arg("image").output().expect("sai-agent").status.code(), Some(2));
    assert_eq!(Command::new(agent()).args(["--image", "{}"]).output().expect("sai-agent").status.code(), Some(1));
    fs::create_dir_all(images.join("bad/env")).expect("a directory");
    let output = image(&images, &["list"]);
    assert!(told(&output).contains("bad: has no base"), "{}", told(&output));
}

#[test]
fn foreign_programs_are_refused_where_nothing_runs_them() {
    let Some((_world, images)) = images("foreign") else { return };
    // Whatever this machine is, it is not both; what it emulates is another matter.
    for (platform, architecture) in [("os/s390x", "s390x"), ("os/mips64el/gcc", "mips64el")] {
        let Err(why) = emulation::emulator(architecture) else { continue };
        let output = image(&images, &["create", platform, "--debootstrap", "trixie"]);
        assert!(status(&output) == 1 && told(&output).contains(&why), "{}", told(&output));
        assert!(why.contains("programs cannot run on this") && why.contains("qemu-user-static"), "{why}");
        assert_eq!(left_over(&images), Vec::<String>::new());
    }
}
