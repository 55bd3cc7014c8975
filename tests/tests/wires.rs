//! Two emulated machines wired to each other, from a push to the page: an agent here builds, the machine with the board flashes it over
//! USB serial, resets it by a GPIO, and its kernel sees the edges of the board's own line.
//!
//! The machine runs Debian's kernel and our own static agent; the board has the stock U-Boot. The pictures are in `target/wires`.

use sai_tests::cross::agent_with_boards;
use sai_tests::machine::BOOT;
use sai_tests::mission::{BEGUN, Mission, VARIABLES, boards};
use sai_tests::wired::{VIRTUAL, Wired};
use sai_tests::world::World;
use std::fs;

/// How the machine begins, each time that it has power: it joins once, and what it has been since is on its card.
fn script(line: &str) -> String {
    format!(
        "mount -t tmpfs run /run\n\
         mkdir -p /dev/pts\n\
         mount -t devpts devpts /dev/pts\n\
         if [ ! -e /var/lib/buddy/agent.json ]; then\n\
             sai-agent join '{line}' --name buddy --platform linux-arm --slots 1 --state /var/lib/buddy --only-save\n\
             sed -i 's#\"platforms\": *\\[[^]]*\\]#\"platforms\": [], \"keep_free_mib\": 8, \"boards\": \"/etc/boards.json\"#' /var/lib/buddy/agent.json\n\
             sync\n\
         fi\n\
         sai-agent --state /var/lib/buddy 2>&1 </dev/null\n"
    )
}

#[test]
fn a_board_at_another_machine_is_flashed_reset_and_judged_by_its_console_and_its_line() {
    let world = World::new("wires");
    let _master = world.master();
    let program = agent_with_boards("aarch64");
    let file = world.directory.join("boards.json");
    fs::write(&file, boards("gpiochip0", VIRTUAL, "1-1", "")).expect("a file");
    // Where the machine finds this one.
    let line = world.join_line("buddy").replace(":127.0.0.1:", ":10.0.2.2:");
    let files = [(program.as_path(), "/usr/bin/sai-agent"), (file.as_path(), "/etc/boards.json")];
    let mut wired = Wired::boot(&world.directory.join("buddy"), VARIABLES, &files, &script(&line));
    let _builder = world.agent("builder", &["linux"], 1);
    let mission = Mission { world: &world, builder: ["builder", "linux"], buddy: "buddy", pictures: "wires" };
    let job = mission.push();
    wired.machine.await_line_for(BOOT, &format!("job {job}-1 begins"));
    mission.await_said(job, 1, BEGUN);
    let event = world.event(1).expect("an event");
    mission.judged(&event);
    let (browser, met) = std::thread::scope(|scope| {
        let browser = scope.spawn(|| mission.seen(&event));
        // The plug of the board's console is pulled while it is judged, and then the machine's.
        wired.pull();
        let unplugged = mission.await_infra(job, 1, &["the board did not come back, and console main was unplugged"]);
        mission.await_standing("not there");
        wired.plug();
        let met = [unplugged, mission.cut_in_mid_flash(&mut wired, job, 2)];
        (browser.join().unwrap_or_else(|why| std::panic::resume_unwind(why)), met)
    });
    mission.cut_is_told(&browser, job, &met);
}
