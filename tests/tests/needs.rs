//! What an event's jobs wait for beside an agent: its plan, what they need, and the units they want, over real processes.

use sai_tests::process::eventually;
use sai_tests::proxy::Proxy;
use sai_tests::repository::Repository;
use sai_tests::world::World;
use std::fs;

const PLATFORM: &str = "linux-debian-12/x86_64/gcc";

/// A saifile with this build text and these configurations.
fn file(build: &str, configurations: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {build:?}}}}}, \"configurations\": {{{configurations}}}}}"
    )
}

#[test]
fn an_event_goes_on_and_is_built_again_by_its_plan_whatever_its_saifile_would_give_now() {
    let world = World::new("plans");
    let mut master = world.master();
    world.repository.push_saifile(&file("echo ${cmake}", "\"a\": {\"cmake\": \"A\"}, \"b\": {\"cmake\": \"B\"}"));
    eventually("the push becomes an event", || world.event(1));
    // A start puts back what a power cut may have taken of a new event's files. After one nothing does.
    master.kill();
    master = world.master();
    master.kill();
    // As if another version were to read it otherwise: one job more, and other texts.
    fs::write(world.state().join("saifiles/1.json"), file("exit 1", "\"x\": {}, \"y\": {}, \"z\": {}"))
        .expect("written");
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 2);
    let states = |number| {
        let jobs = world.ended(number).jobs;
        jobs.iter().map(|job| (job.configuration.clone(), job.state.clone(), job.attempt)).collect::<Vec<_>>()
    };
    let row = |name: &str, attempt| (name.to_string(), "passed".to_string(), attempt);
    assert_eq!(states(1), [row("a", 1), row("b", 1)]);
    world.command(&["rebuild", "job", "2"]);
    eventually("it is built again", || world.event(1).filter(|event| event.jobs[1].attempt == 2));
    assert_eq!(states(1), [row("a", 1), row("b", 2)]);
    assert_eq!(world.log(2), b"B\n");

    // Of an event that an older version made there is no plan: as ever its saifile counts, and a difference is told.
    let plan = world.state().join("saifiles/1.plan.json");
    fs::remove_file(&plan).expect("a plan");
    let (status, _, told) = world.try_command(&["rebuild", "job", "1"]);
    assert!(status != 0 && told.contains("3 jobs, where 2 were made of it"), "{status} {told}");
    fs::write(world.state().join("saifiles/1.json"), file("echo again", "\"a\": {}, \"b\": {}")).expect("written");
    world.command(&["rebuild", "job", "1"]);
    eventually("it is built again", || world.event(1).filter(|event| event.jobs[0].attempt == 2));
    assert_eq!(states(1), [row("a", 2), row("b", 2)]);
    assert!(plan.exists(), "it has one from now on");

    // A damaged one is no reason to guess.
    master.kill();
    fs::write(&plan, "{").expect("written");
    let _master = world.master();
    let (status, _, told) = world.try_command(&["rebuild", "job", "1"]);
    assert!(status != 0 && told.contains("its plan cannot be used"), "{status} {told}");
}

#[test]
fn jobs_whose_plan_is_damaged_end_as_trouble_of_ours_when_the_master_starts() {
    let world = World::new("lost-plan");
    let mut master = world.master();
    // Nobody offers what they want, so that they wait; one waits for the other.
    let both = file("true", "\"a\": {}, \"b\": {\"needs\": \"a\"}");
    world.repository.push_saifile(&both);
    eventually("the push becomes an event", || world.event(1));
    // A start puts back what a power cut may have taken of a new event's files. After one nothing does.
    master.kill();
    master = world.master();
    master.kill();
    fs::write(world.state().join("saifiles/1.plan.json"), "{").expect("written");
    let _master = world.master();
    let ends = || {
        let jobs = world.event(1).map(|event| event.jobs).unwrap_or_default();
        jobs.into_iter().map(|job| (job.state, job.attempt)).collect::<Vec<_>>()
    };
    let lost = || ("infra".to_string(), 0);
    eventually("they have ended", || (ends() == [lost(), lost()]).then_some(()));
}

#[test]
fn what_needs_a_job_waits_for_it_and_is_skipped_or_built_again_with_it() {
    let world = World::new("needs");
    let _master = world.master();
    let _agents = [world.agent("one", &[PLATFORM], 2), world.agent("two", &[PLATFORM], 2)];
    let place = world.directory.display().to_string();
    let build = format!("cd {place}; ${{cmake}}");
    world.repository.push_saifile(&file(
        &build,
        "\"report\": {\"needs\": \"lint, test\", \"cmake\": \"cat built tested > reported\"},\
         \"lint\": {\"cmake\": \"test -e fixed\"},\
         \"build\": {\"cmake\": \"sleep 0.3; echo built > built\"},\
         \"test\": {\"needs\": \"build\", \"cmake\": \"test -e built && echo tested > tested\"},\
         \"slow\": {\"cmake\": \"while [ ! -e go ]; do sleep 0.05; done\"},\
         \"pack\": {\"needs\": [\"slow\", \"build\"]}",
    ));
    let job = |name: &str| {
        let event = world.event(1)?;
        event.jobs.into_iter().find(|job| job.configuration == name)
    };
    eventually("the slow one runs, and what needs it is blocked", || {
        job("slow").filter(|job| job.state == "running")?;
        job("pack")
            .filter(|job| job.state == "blocked" && job.waiting.as_deref().is_some_and(|why| why.contains("slow")))
    });
    let slow = job("slow").expect("a job").id;
    world.command(&["cancel", "job", &slow.to_string()]);
    let event = world.ended(1);
    let states: Vec<(&str, &str)> =
        event.jobs.iter().map(|job| (job.configuration.as_str(), job.state.as_str())).collect();
    assert_eq!(
        states,
        [
            ("report", "skipped"),
            ("lint", "failed"),
            ("build", "passed"),
            ("test", "passed"),
            ("slow", "cancelled"),
            ("pack", "skipped"),
        ]
    );
    let (report, lint) = (&event.jobs[0], &event.jobs[1]);
    let expected = format!("lint on linux (job {}), which it needs, failed", lint.id);
    assert_eq!(report.cause, expected);
    assert!(event.jobs[5].cause.ends_with("was cancelled"), "{}", event.jobs[5].cause);
    let page = world.page(&format!("/job/{}", report.id));
    assert!(page.contains(&format!("<a href=\"/job/{}\">Skipped by job {0}</a>", lint.id)), "{page}");
    assert_eq!(event.event.state, "failed");

    // What was skipped cannot run without what it needs, and runs again with it.
    let (status, _, told) = world.try_command(&["rebuild", "job", &report.id.to_string()]);
    assert!(status != 0 && told.contains(&format!("rebuild job {}", lint.id)), "{told}");
    fs::write(world.directory.join("fixed"), "").expect("a file");
    world.command(&["rebuild", "job", &lint.id.to_string()]);
    eventually("the report is built", || job("report").filter(|job| job.state == "passed" && job.attempt == 1));
    assert_eq!(fs::read_to_string(world.directory.join("reported")).expect("a report"), "built\ntested\n");
    assert_eq!(job("test").expect("a job").attempt, 1, "what had passed is not run again");

    // With what follows: all that needs it.
    let build = job("build").expect("a job").id;
    fs::write(world.directory.join("go"), "").expect("a file");
    world.command(&["rebuild", "job", &slow.to_string()]);
    eventually("it is packed", || job("pack").filter(|job| job.state == "passed"));
    world.command(&["rebuild", "following", &build.to_string()]);
    eventually("all that needs it is built again", || {
        let event = world.event(1).filter(|event| event.jobs.iter().all(|job| job.state == "passed"))?;
        let attempts: Vec<u32> = event.jobs.iter().map(|job| job.attempt).collect();
        (attempts == [2, 2, 2, 2, 2, 2]).then_some(())
    });
    assert_eq!(world.events()[0].state, "passed");
}

/// How many jobs of the first event have ended.
fn ended(world: &World) -> usize {
    world.event(1).map_or(0, |event| event.jobs.iter().filter(|job| job.ended()).count())
}

#[test]
fn a_licence_of_an_agent_that_does_not_come_back_is_held_until_a_person_frees_it() {
    let mut world = World::new("away");
    world.set("units", "{\"licences\": 1}");
    world.set("orphan_s", "40");
    let _master = world.master();
    let mut away = world.agent("away", &[PLATFORM], 1);
    let place = world.directory.display().to_string();
    let build = format!("echo $SAI_ATTEMPT >> {place}/ran; while [ ! -e {place}/go ]; do sleep 0.05; done");
    world.repository.push_saifile(&file(&build, "\"a\": {\"units\": [\"licences\"]}"));
    let ran = || fs::read_to_string(world.directory.join("ran")).unwrap_or_default();
    eventually("it runs", || (ran() == "1\n").then_some(()));
    // What it started goes on, whatever the master thinks of it.
    away.kill();
    let _other = world.agent("other", &[PLATFORM], 1);
    let given_up = |why: &str| why.contains("wants 1 of licences, 0 of 1 free; held by job 1");
    eventually("it is given up and waits for what it still holds itself", || {
        let job = world.event(1)?.jobs.into_iter().next()?;
        (job.state == "queued" && job.waiting.as_deref().is_some_and(given_up)).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(ran(), "1\n", "nobody else has it");
    world.command(&["unit", "free", "1"]);
    eventually("it runs elsewhere", || (ran() == "1\n2\n").then_some(()));
    // Whoever had it before comes back: what it says frees nothing that another one holds.
    let _away = world.agent_again("away");
    eventually("its attempt is dropped", || world.job_directories(&world.agent_state("away")).is_empty().then_some(()));
    assert!(world.command(&["status"]).contains("unit\tlicences: 0 of 1 free; held by job 1"));
    fs::write(world.directory.join("go"), "").expect("a file");
    let job = &world.ended(1).jobs[0];
    assert_eq!((job.state.as_str(), job.attempt, job.agent.as_deref()), ("passed", 2, Some("other")));
    eventually("it has returned", || {
        world.command(&["status"]).contains("unit\tlicences: 1 of 1 free\n").then_some(())
    });
}

#[test]
fn a_licence_of_two_is_never_held_by_three_whoever_dies() {
    let mut world = World::new("licences");
    world.set("units", "{\"licences\": 2}");
    let proxy = Proxy::start(world.address());
    world.set("url", &format!("\"https://{}\"", proxy.address));
    let mut master = world.master();
    let mut agents = [world.agent("one", &[PLATFORM], 3), world.agent("two", &[PLATFORM], 3)];
    let place = world.directory.display().to_string();
    fs::create_dir(world.directory.join("held")).expect("a directory");
    let build = format!(
        "mkdir {place}/held/$SAI_JOB; ls {place}/held | wc -l >> {place}/counts; sleep 0.6; rmdir {place}/held/$SAI_JOB"
    );
    let configurations: Vec<String> =
        (0..10).map(|index| format!("\"c{index}\": {{\"units\": [\"licences\"]}}")).collect();
    world.repository.push_saifile(&file(&build, &configurations.join(", ")));
    eventually("two run and the others wait for them", || {
        let event = world.event(1)?;
        let running = event.jobs.iter().filter(|job| job.state == "running").count();
        let why = event.jobs.iter().find_map(|job| job.waiting.clone())?;
        (running == 2 && why.contains("wants 1 of licences, 0 of 2 free; held by job")).then_some(())
    });
    assert!(world.command(&["status"]).contains("unit\tlicences: 0 of 2 free; held by job"));
    agents[0].kill();
    master.kill();
    agents[0] = world.agent_starts("one");
    master = world.master();
    proxy.cut();
    eventually("more have run", || Some(()).filter(|()| ended(&world) >= 3));
    proxy.cut();
    agents[1].kill();
    agents[1] = world.agent_again("two");
    let event = world.ended(1);
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{:?}", event.jobs);
    let counts = fs::read_to_string(world.directory.join("counts")).expect("counts");
    let counts: Vec<u32> = counts.lines().map(|line| line.trim().parse().expect("a count")).collect();
    assert!(counts.len() >= 10 && counts.iter().all(|count| *count <= 2), "{counts:?}");
    eventually("all of it has returned", || {
        world.command(&["status"]).contains("unit\tlicences: 2 of 2 free\n").then_some(())
    });
    drop(master);
}

#[test]
fn a_hundred_jobs_of_one_repository_make_neither_another_nor_a_person_wait_for_all_of_them() {
    let mut world = World::new("turns");
    world.set("units", "{\"licence\": 1}");
    let place = world.directory.join("second");
    fs::create_dir(&place).expect("a directory");
    let second = Repository::new(&place);
    world.set(
        "repositories",
        &format!(
            "{{\"project\": {{\"url\": {:?}}}, \"second\": {{\"url\": {:?}}}}}",
            world.repository.bare, second.bare
        ),
    );
    let _master = world.master();
    let token = world.command(&["user", "add", "ann"]);
    let _agent = world.agent("one", &[PLATFORM], 2);
    let place = world.directory.display().to_string();
    let build = format!("echo $SAI_PROJECT $SAI_JOB >> {place}/order; while [ ! -e {place}/go ]; do sleep 0.02; done");
    let one = "\"a\": {\"units\": [\"licence\"]}";
    fs::write(world.directory.join("go"), "").expect("a file");
    world.repository.push_saifile(&file(&build, one));
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    fs::remove_file(world.directory.join("go")).expect("no file");
    // The first of a hundred holds it until the others have come.
    let hundred: Vec<String> = (0..100).map(|index| format!("\"c{index}\": {{\"units\": [\"licence\"]}}")).collect();
    world.repository.push_saifile(&file(&build, &hundred.join(", ")));
    eventually("one of a hundred runs", || world.event(2)?.jobs.iter().any(|job| job.state == "running").then_some(()));
    second.install_hook(&format!("https://127.0.0.1:{}", world.port), "second");
    second.push_saifile(&file(&build, one));
    let other = eventually("the second waits", || world.event(3)?.jobs.into_iter().find(|job| job.waiting.is_some()));
    let again = world.event(1).expect("an event").jobs[0].id;
    let (status, body) = world.post(&format!("/api/v1/jobs/{again}/rebuild"), Some(token.trim()));
    assert_eq!(status, 200, "{body}");
    eventually("the person waits", || world.event(1)?.jobs.into_iter().find(|job| job.waiting.is_some()));
    let told = String::from_utf8(world.get("/api/v1/units").expect("the units")).expect("UTF-8");
    let next = told.split_once("\"waiting\":[").expect("who waits").1;
    let expected = format!(
        "{{\"job\":{again},\"amount\":1,\"turn_of\":\"ann\",\"collects\":false}},{{\"job\":{},\"amount\":1,\"turn_of\":\"second\"",
        other.id
    );
    assert!(next.starts_with(&expected) && told.contains("\"waiting_count\":101"), "{told}");
    fs::write(world.directory.join("go"), "").expect("a file");
    assert_eq!(world.ended(3).jobs[0].state, "passed");
    assert_eq!(world.ended(1).jobs[0].attempt, 2);
    let order = fs::read_to_string(world.directory.join("order")).expect("the order");
    let order: Vec<&str> = order.lines().skip(2).take(2).collect();
    assert_eq!(order, [format!("project {again}"), format!("second {}", other.id)], "those two are the next ones");
    world.command(&["cancel", "event", "2"]);
    world.ended(2);
}
