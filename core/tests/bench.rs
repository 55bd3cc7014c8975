//! Benches of boards, shipped, wrong and hostile, read.

use sai_core::bench::{
    self, Alternate, AtUsb, Bench, Flasher, Pin, Setting, Settings, Step, Supply, Switch, Tty, Use, Wire,
};
use sai_core::units::WantedBoard;

const SHIPPED: &str = include_str!("../../configs/boards.json");

fn read(text: &str) -> Bench {
    bench::read("F", text.as_bytes()).unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

fn errors(text: impl AsRef<[u8]>) -> Vec<String> {
    bench::read("F", text.as_ref()).err().unwrap_or_default()
}

/// What is wrong with one board that has these keys beside its type; each error without the file, its line and its path before the
/// board's own.
fn wrong(keys: &str) -> Vec<String> {
    let text = format!("{{\"boards\":{{\"b\":{{\"type\":\"t\",\n{keys}}}}}}}");
    errors(text).iter().map(|error| error.replace("F:2:", "").replace("boards.b.", "")).collect()
}

#[test]
fn the_shipped_bench_says_what_its_comments_say() {
    let bench = read(SHIPPED);
    let names: Vec<_> = bench.boards.iter().map(|board| (board.name.as_str(), board.kind.as_str())).collect();
    let expected =
        [("bench-1", "nucleo-f411"), ("bench-2", "esp32"), ("bench-3", "arduino-uno"), ("bench-4", "u-boot-arm64")];
    assert_eq!(names, expected);
    let [nucleo, esp, uno, uboot] = &bench.boards[..] else { panic!() };

    assert_eq!(nucleo.consoles[0].tty, Tty::Usb("1-1.2".to_string(), 0));
    let plain = Settings { baud: 115_200, bits: 8, parity: bench::Parity::None, stop: 1, flow: bench::Flow::None };
    assert_eq!(nucleo.consoles[0].settings, plain);
    assert_eq!((nucleo.consoles[0].pace_ms, nucleo.consoles[0].echo, nucleo.consoles[0].dtr), (1, true, None));
    let nrst = nucleo.line("nrst").unwrap();
    assert_eq!((nrst.wire, nrst.active_low), (Wire::Gpio("gpiochip0".to_string(), Pin::Offset(17)), true));
    assert_eq!((nrst.use_as, nrst.unheld), (Use::Output { safe: false, drive: bench::Drive::OpenDrain }, Some(false)));
    let led = nucleo.line("led").unwrap().use_as;
    assert_eq!(led, Use::Input { bias: bench::Bias::PullDown, debounce_us: 1000, poll_ms: 0 });
    let set = |name: &str, level: bool| Step::Set(vec![(name.to_string(), level)]);
    let reset = [set("nrst", true), Step::Wait(50), set("nrst", false)];
    assert_eq!(nucleo.play("reset").unwrap(), reset);
    assert_eq!(nucleo.play("dance"), None);
    let way = nucleo.way_to("loader").unwrap();
    assert_eq!(way.len(), 2);
    assert_eq!(way[0], ("off".to_string(), vec![Step::Power(Switch::Off)], 0));
    let mut steps = vec![set("boot0", true), Step::Power(Switch::On)];
    steps.extend(reset);
    assert_eq!(way[1], ("loader".to_string(), steps, 100));
    let flash = nucleo.flash.as_ref().unwrap();
    assert_eq!((&flash.with, flash.chip_id, flash.timeout_s), (&Flasher::Stm32, Some(0x431), 120));
    let targets: Vec<_> =
        flash.targets.iter().map(|target| (target.name.as_str(), target.address, target.size)).collect();
    assert_eq!(targets, [("app", 0x0800_0000, Some(393_216)), ("data", 0x0806_0000, None)]);
    assert_eq!(nucleo.power.as_ref().unwrap().by, Supply::UsbPort("1-1.2".to_string()));
    assert_eq!(nucleo.health.as_ref().unwrap().pass.text(), "^READY");

    assert_eq!((esp.consoles[0].dtr, esp.consoles[0].rts), (Some(false), Some(false)));
    let both = |dtr, rts| Step::Set(vec![("main.dtr".to_string(), dtr), ("main.rts".to_string(), rts)]);
    let reset = [both(false, false), both(false, true), Step::Wait(100), both(false, false)];
    assert_eq!(esp.play("reset").unwrap(), reset);
    assert_eq!(esp.play("loader").unwrap().len(), 7);
    assert!(matches!(&esp.flash.as_ref().unwrap().with, Flasher::Tool { argv, verifies: true } if argv.len() == 14));
    let Supply::Http { on, .. } = &esp.power.as_ref().unwrap().by else { panic!() };
    assert_eq!(on.url, "http://192.0.2.40/cm?cmnd=Power%20On");

    assert_eq!((uno.consoles[0].dtr, uno.consoles[0].settings.baud), (Some(true), 115_200));
    let flash = uno.flash.as_ref().unwrap();
    assert_eq!(
        (&flash.with, flash.console.as_deref(), flash.targets[0].address),
        (&Flasher::Optiboot, Some("main"), 0)
    );

    let Flasher::Uboot(settings) = &uboot.flash.as_ref().unwrap().with else { panic!() };
    assert_eq!((settings.load, settings.write.len(), settings.verifies), (0x4100_0000, 3, true));
    assert_eq!(uboot.lines[0].wire, Wire::Gpio("gpiochip0".to_string(), Pin::Name("GPIO24".to_string())));
    assert_eq!(bench.rigs[0].boards, ["bench-1", "bench-2"]);
}

#[test]
fn all_that_is_wrong_is_named_at_once_by_its_place() {
    let text = r#"{ "chip": "gpio chip", "bords": {},
  "boards": {
    "-b": { "type": "t" },
    "b": { "tags": ["a b"], "consoles": { "main": { "usb": "1-1.2", "baud": "fast", "parity": "mark" }, "x": {} } },
    "b": { "type": "u" },
    "c": { "type": "t", "consoles": { "main": { "usb": "1-1.2" } }, "consols": 1 }
  }, "rigs": { "c": { "type": "t", "boards": ["b", "nobody"] } } }"#;
    assert_eq!(
        errors(text),
        [
            "F:1:11: chip: expected the name or label of a GPIO chip, such as \"gpiochip0\"",
            "F:1:24: bords: expected one of chip, boards, rigs",
            "F:3:5: boards.-b: expected a name of 1 to 32 letters, digits and `_ -`, beginning with no `-`",
            "F:4:10: boards.b: expected a key type",
            "F:4:21: boards.b.tags: expected a unit's name of 1 to 128 letters, digits and `_ . -`, beginning with none of `. -`",
            "F:4:77: boards.b.consoles.main.baud: expected a whole number from 50 to 20000000",
            "F:4:95: boards.b.consoles.main.parity: expected one of none, even, odd",
            "F:4:110: boards.b.consoles.x: expected one of the keys usb, by_id, path",
            "F:5:5: boards.b: expected a name that is not there twice",
            "F:6:56: boards.c.consoles.main.usb: expected interface 0 of USB port 1-1.2 only once: it is b's (4:60)",
            "F:6:69: boards.c.consols: expected one of type, tags, chip, consoles, lines, sequences, modes, flash, power, health",
            "F:7:16: rigs.c: expected a name that no board has, found that of `c`",
            "F:7:52: rigs.c.boards: expected the name of a board, found `nobody`",
        ]
    );
    assert_eq!(errors("{}"), ["F:1:1: expected a key boards"]);
    assert_eq!(
        errors("{\"boards\":{}, }"),
        ["F:1:13: expected no comma after the last entry of an object (its `}` is at 1:15)"]
    );
}

#[test]
fn boards_are_offered_as_they_are_wanted_and_none_of_a_rig_alone() {
    let text = r#"{ "boards": {
        "a": { "type": "uno", "tags": ["leds", "can"] }, "b": { "type": "uno" }, "c": { "type": "esp32" } },
        "rigs": { "pair": { "type": "uno", "boards": ["b", "c"] } } }"#;
    let wanted = |kind: &str, tags: &[&str]| WantedBoard {
        kind: kind.to_string(),
        tags: tags.iter().map(ToString::to_string).collect(),
        ..WantedBoard::default()
    };
    let bench = read(text);
    let offered = bench.offered();
    let [board, rig] = &offered[..] else { panic!("one is in no rig: {offered:?}") };
    let names = rig.boards.iter().flatten().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((rig.name.as_str(), rig.kind.as_str(), names), ("pair", "uno", vec!["b", "c"]));
    // Who wants a board is given no rig of that type, and who wants a rig none with more boards.
    let pair = |boards| WantedBoard { rig: Some(boards), ..wanted("uno", &[]) };
    assert!(!wanted("uno", &[]).is_met_by(rig) && !pair(2).is_met_by(board));
    assert!(pair(2).is_met_by(rig) && !pair(3).is_met_by(rig));
    assert_eq!(bench.unit("pair").iter().map(|board| board.kind.as_str()).collect::<Vec<_>>(), ["uno", "esp32"]);
    assert_eq!((bench.unit("a").len(), bench.unit("nobody").len()), (1, 0));
    assert_eq!(board.name, "a");
    assert!(wanted("uno", &["can"]).is_met_by(board) && wanted("uno", &[]).is_met_by(board));
    assert!(!wanted("uno", &["wifi"]).is_met_by(board) && !wanted("esp32", &[]).is_met_by(board));
    let shipped: Vec<_> = read(SHIPPED).offered().into_iter().map(|board| (board.name, board.kind)).collect();
    assert!(shipped.contains(&("bench-3".to_string(), "arduino-uno".to_string())), "{shipped:?}");
}

#[test]
fn nothing_belongs_to_two_boards() {
    for (first, second, what) in [
        (
            r#""consoles":{"m":{"usb":"1-1","interface":1}}"#,
            r#""consoles":{"m":{"usb":"1-1","interface":1}}"#,
            "interface 1 of USB port 1-1",
        ),
        (
            r#""consoles":{"m":{"by_id":"usb-x-if00"}}"#,
            r#""consoles":{"m":{"path":"/dev/serial/by-id/usb-x-if00"}}"#,
            "the tty usb-x-if00",
        ),
        (
            r#""consoles":{"m":{"path":"/dev/ttyS0"}}"#,
            r#""consoles":{"m":{"path":"/dev/ttyS0"}}"#,
            "the tty /dev/ttyS0",
        ),
        (r#""lines":{"a":{"line":4,"safe":0}}"#, r#""lines":{"b":{"line":4,"direction":"in"}}"#, "line 4 of gpiochip0"),
        (
            r#""lines":{"a":{"line":4,"safe":0}}"#,
            r#""chip":"other","lines":{"b":{"line":4,"chip":"gpiochip0","safe":0}}"#,
            "line 4 of gpiochip0",
        ),
        (r#""power":{"usb_port":"1-1.2"}"#, r#""lines":{"vbus":{"usb_port":"1-1.2"}}"#, "the power of USB port 1-1.2"),
    ] {
        let text = format!("{{\"boards\":{{\"a\":{{\"type\":\"t\",{first}}},\n\"b\":{{\"type\":\"t\",{second}}}}}}}");
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(&format!("expected {what} only once: it is a's (1:")), "{found:?}");
        assert!(found[0].starts_with("F:2:"), "{found:?}");
        // Nor twice to one.
        if first.starts_with("\"consoles") && first == second {
            let inner = first.trim_end_matches('}').replacen("\"consoles\":{\"m\":", "", 1);
            let text = format!(
                "{{\"boards\":{{\"a\":{{\"type\":\"t\",\"consoles\":{{\"m\":{inner}}},\n\"n\":{inner}}}}}}}}}}}"
            );
            assert_eq!(errors(&text).len(), 1, "{text}");
        }
    }
    // The same number of another chip is another line, and another interface another tty.
    let apart = r#"{"boards":{"a":{"type":"t","lines":{"x":{"line":4,"safe":0},"y":{"line":4,"chip":"gpiochip1","safe":0}},
        "consoles":{"m":{"usb":"1-1"},"n":{"usb":"1-1","interface":1}}}}}"#;
    assert_eq!(errors(apart), Vec::<String>::new());
    let twice = r#"{"boards":{"a":{"type":"t"},"b":{"type":"t"},"c":{"type":"t"}},
        "rigs":{"r":{"type":"t","boards":["a","b"]},"s":{"type":"t","boards":["b","c"]},"t":{"type":"t","boards":["c"]}}}"#;
    let found = errors(twice);
    assert!(found[0].contains("rigs.s.boards: expected board b only once: it is rig r's"), "{found:?}");
    assert!(found[1].contains("rigs.t.boards: expected the names of two boards or more"), "{found:?}");
}

#[test]
fn steps_mean_what_is_there() {
    let lines = r#""lines":{"a":{"line":1,"safe":0},"in":{"line":2,"direction":"in"}},"consoles":{"main":{"path":"/dev/ttyS1"}},"#;
    for (step, expected) in [
        ("a 2", "a step: `LINE 0|1`, `wait TIME`, `power on|off|cycle` or the name of a sequence"),
        ("a", "a sequence of this board, found `a`"),
        ("b 1", "a line of this board, found `b`"),
        ("main.cts 1", "a line of this board, found `main.cts`"),
        ("other.dtr 1", "a line of this board, found `other.dtr`"),
        ("in 1", "a line that is driven, found `in`, which is read"),
        ("a 1, a 0", "each line once in a step, found `a` again"),
        ("a 1,", "a step: `LINE 0|1`, `wait TIME`, `power on|off|cycle` or the name of a sequence"),
        ("wait 5", "a time like \"50ms\", \"2s\" or \"1m\", at most 10 minutes"),
        ("wait 11m", "a time like \"50ms\", \"2s\" or \"1m\", at most 10 minutes"),
        ("wait", "`wait` and a time"),
        ("power on", "a board with a `power` for this"),
        ("", "a step"),
    ] {
        let found = wrong(&format!("{lines}\n\"sequences\":{{\"s\":[\"wait 1ms\", \"{step}\"]}}"));
        assert_eq!(found, [format!("F:3:31: sequences.s: expected {expected}")], "{step}");
    }
    let good = format!(
        r#"{{"boards":{{"b":{{"type":"t",{lines}"sequences":{{"s":["a 1, main.dtr 1,main.rts 0","wait 2s","main.break 1"],"t":"s"}}}}}}}}"#
    );
    let board = &read(&good).boards[0];
    let level = |name: &str, level| (name.to_string(), level);
    let first = Step::Set(vec![level("a", true), level("main.dtr", true), level("main.rts", false)]);
    assert_eq!(board.play("t").unwrap(), [first, Step::Wait(2000), Step::Set(vec![level("main.break", true)])]);
}

#[test]
fn nothing_leads_to_itself_and_nothing_has_no_end() {
    let found = wrong(r#""sequences":{"a":["wait 1ms","b"],"b":["c"],"c":"a","d":"a"}"#);
    assert_eq!(
        found,
        [
            "18: sequences.a: expected a sequence that does not lead to itself (a → b → c → a)",
            "39: sequences.b: expected a sequence that does not lead to itself (b → c → a → b)",
            "49: sequences.c: expected a sequence that does not lead to itself (c → a → b → c)",
            "57: sequences.d: expected a sequence that does not lead to itself (a → b → c → a)",
        ]
    );
    let found = wrong(
        r#""modes":{"a":{"from":"b","do":[]},"b":{"from":"a","do":[]},"c":{"from":"a","do":[]},"d":{"from":"d","do":[]},"e":{"from":"f","do":[]},"g":{}}"#,
    );
    assert_eq!(
        found,
        [
            "22: modes.a.from: expected a mode that does not lead to itself (a ← b ← a)",
            "47: modes.b.from: expected a mode that does not lead to itself (b ← a ← b)",
            "97: modes.d.from: expected a mode that does not lead to itself (d ← d)",
            "122: modes.e.from: expected the name of a mode of this board, found `f`",
            "139: modes.g: expected a key do: the steps to this mode",
        ]
    );
    // Each plays the one before twice, ten levels of it, with a step at the end or with none.
    for last in ["\"wait 1ms\"", ""] {
        let mut all = vec![format!("\"s0\":[{last}]")];
        all.extend((1..60).map(|index| format!("\"s{index}\":[\"s{0}\",\"s{0}\"]", index - 1)));
        let found = wrong(&format!("\"sequences\":{{{}}}", all.join(",")));
        assert!(found.len() >= 49 && found[0].contains("at most 1000 steps"), "{} {:?}", found.len(), found.first());
    }
    let found = wrong(r#""sequences":{"a":["wait 6m"],"b":["a","a"]}"#);
    assert_eq!(found, ["34: sequences.b: expected waits of at most 10 minutes together"]);
}

#[test]
fn lines_consoles_and_supplies_are_checked_as_they_are_used() {
    for (keys, expected) in [
        (
            r#""lines":{"a":{"line":1}}"#,
            "14: lines.a: expected a key safe: the level, 0 or 1, in which nothing happens to the board",
        ),
        (r#""lines":{"a":{"line":1,"safe":2}}"#, "31: lines.a.safe: expected a whole number from 0 to 1"),
        (
            r#""lines":{"a":{"line":70000,"safe":0}}"#,
            "22: lines.a.line: expected the number of a line from 0 to 65535, or its name",
        ),
        (
            r#""lines":{"a":{"line":1,"direction":"in","safe":0}}"#,
            "48: lines.a.safe: expected no `safe` of a line that is read",
        ),
        (
            r#""lines":{"a":{"line":1,"safe":0,"bias":"pull-up"}}"#,
            "40: lines.a.bias: expected no `bias` of a line that is driven",
        ),
        (
            r#""lines":{"a":{"line":1,"direction":"in","debounce":"2s"}}"#,
            "52: lines.a.debounce: expected a time of at most 1s",
        ),
        (
            r#""lines":{"a":{"line":1,"direction":"in","poll":"0ms"}}"#,
            "48: lines.a.poll: expected a time from 1ms to 1s",
        ),
        (
            r#""lines":{"a":{"line":1,"direction":"in","poll":"10ms","debounce":"1ms"}}"#,
            "48: lines.a.poll: expected no `poll` where there is `debounce`, which is of the chip's own edges",
        ),
        (
            r#""lines":{"a":{"line":1,"safe":0,"poll":"10ms"}}"#,
            "40: lines.a.poll: expected no `poll` of a line that is driven",
        ),
        (
            r#""lines":{"a":{"line":1,"safe":0,"pwm":"50Hz 10%"}}"#,
            "39: lines.a.pwm: expected a line of the chip \"pi\": no other has this",
        ),
        (
            r#""lines":{"a":{"chip":"pi","line":1,"safe":0,"pwm":"50kHz 10%"}}"#,
            "51: lines.a.pwm: expected pulses like \"1000Hz 30%\", at most 10000Hz, of 1% to 99%",
        ),
        (
            r#""lines":{"a":{"chip":"pi","line":1,"safe":1,"function":"alt0"}}"#,
            "43: lines.a.safe: expected 0: a guard makes no pulses, and has no function",
        ),
        (
            r#""lines":{"a":{"chip":"pi","line":1,"safe":0,"function":"alt0","pwm":"1Hz 1%"}}"#,
            "34: lines.a.line: expected only one of drive, pwm and function",
        ),
        (
            r#""lines":{"a":{"chip":"pi","line":54,"safe":0}}"#,
            "34: lines.a.line: expected the number of a GPIO of the chip \"pi\", from 0 to 53",
        ),
        (
            r#""lines":{"a":{"chip":"pi","line":1,"safe":0,"drive":"open-drain"}}"#,
            "53: lines.a.drive: expected \"push-pull\": the chip \"pi\" has no other",
        ),
        (r#""lines":{"wait":{"line":1,"safe":0}}"#, "10: lines.wait: expected a name that is no word of steps"),
        (
            r#""lines":{"a":{"dtr":"main"}}"#,
            "21: lines.a.dtr: expected the name of a console of this board, found `main`",
        ),
        (
            r#""lines":{"a":{"line":1,"usb_port":"1-1","safe":0}}"#,
            "35: lines.a.usb_port: expected only one of the keys line, usb_port",
        ),
        (
            r#""lines":{"a":{"usb_port":"1-1","chip":"x"}}"#,
            "39: lines.a.chip: expected no `chip` of a line that is no GPIO",
        ),
        (
            r#""consoles":{"m":{"usb":"1-1","path":"/dev/ttyS0"}}"#,
            "37: consoles.m.path: expected only one of the keys usb, path",
        ),
        (
            r#""consoles":{"m":{"path":"/dev/../etc/passwd"}}"#,
            "25: consoles.m.path: expected a path below /dev without `..`",
        ),
        (
            r#""consoles":{"m":{"path":"/dev/ttyS0","interface":1}}"#,
            "50: consoles.m.interface: expected `usb` beside it",
        ),
        (
            r#""consoles":{"m":{"usb":"usb1"}}"#,
            "24: consoles.m.usb: expected a USB port as it is in /sys/bus/usb/devices, such as \"1-1.2\"",
        ),
        (
            r#""consoles":{"m":{"usb":"1-1","product":"0403"}}"#,
            "40: consoles.m.product: expected vendor and product such as \"0403:6001\"",
        ),
        (r#""consoles":{"m":{"usb":"1-1","bits":9}}"#, "37: consoles.m.bits: expected a whole number from 5 to 8"),
        (
            r#""consoles":{"m":{"usb":"1-1","wiring":"esp"}}"#,
            "39: consoles.m.wiring: expected one of esp-classic, esp-usb-jtag, arduino",
        ),
        (
            r#""power":{"line":"vcc"}"#,
            "17: power.line: expected the name of a line of this board that is driven, found `vcc`",
        ),
        (r#""power":{"on":["relay","1"]}"#, "9: power.off: expected `on` and `off` together"),
        (r#""power":{"on":["{tty}"],"off":["x"]}"#, "16: power.on: expected no `{tty}` here"),
        (
            r#""power":{"on":"https://x/","off":"http://x/"}"#,
            "15: power.on: expected http://HOST[:PORT]/…, without blanks",
        ),
        (r#""power":{}"#, "9: power: expected one of the keys usb_port, line, on, tasmota"),
        (r#""health":{"pass":"(x"}"#, "18: health.pass: expected a regular expression: found open group"),
        (r#""health":{}"#, "10: health: expected a key pass"),
        (
            r#""health":{"pass":"x","every":"5m"}"#,
            "30: health.every: expected a time like \"30m\", \"12h\" or \"7d\", 10 minutes to 365 days",
        ),
        (r#""health":{"flash":"a.bin","pass":"x"}"#, "19: health.flash: expected a board with a `flash` for this"),
    ] {
        let found = wrong(keys);
        assert!(found.iter().any(|error| error.starts_with(expected)), "{keys}: {found:?}");
        assert_eq!(found.len(), 1, "{keys}: {found:?}");
    }
}

#[test]
fn flashers_are_told_all_they_need_and_nothing_else() {
    let console = r#""consoles":{"m":{"usb":"1-1"}},"#;
    for (keys, expected) in [
        (r#""flash":{}"#, "9: flash: expected a key with"),
        (
            r#""flash":{"with":"jtag"}"#,
            "17: flash.with: expected one of ymodem-uboot, stm32, optiboot, dfu, fastboot, argv",
        ),
        (r#""flash":{"with":"stm32"}"#, "9: flash: expected a key console: which one it goes by"),
        (
            r#""consoles":{"m":{"usb":"1-1"}},"flash":{"with":"stm32","argv":["x"]}"#,
            "63: flash.argv: expected no key argv with \"stm32\"",
        ),
        (
            r#""consoles":{"m":{"usb":"1-1"}},"flash":{"with":"stm32","mode":"x"}"#,
            "63: flash.mode: expected the name of a mode of this board, found `x`",
        ),
        (
            r#""consoles":{"m":{"usb":"1-1"}},"flash":{"with":"stm32","chip_id":"431"}"#,
            "66: flash.chip_id: expected text of a number in hexadecimal",
        ),
        (
            r#""consoles":{"m":{"usb":"1-1"}},"flash":{"with":"stm32","targets":{"a":"0x3"}}"#,
            "71: flash.targets.a: expected an address that is a multiple of 4",
        ),
        (
            r#""consoles":{"m":{"usb":"1-1"}},"flash":{"with":"optiboot","targets":{"a":"flash"}}"#,
            "74: flash.targets.a: expected text of an address",
        ),
        (r#""flash":{"with":"argv"}"#, "9: flash: expected a key argv: a program and its arguments"),
        (
            r#""flash":{"with":"argv","argv":["dd"]}"#,
            "31: flash.argv: expected an argument with {image}, where the file's name stands",
        ),
        (
            r#""flash":{"with":"argv","argv":["dd","{image}","{port}"]}"#,
            "47: flash.argv: expected one of {image} {tty} {baud} {target} in braces, found {port}",
        ),
        (
            r#""flash":{"with":"argv","argv":"dd {image}"}"#,
            "31: flash.argv: expected an array of 1 to 256 texts: a program and its arguments",
        ),
        (
            r#""flash":{"with":"argv","argv":["x","{image}"],"chip_id":"0x1"}"#,
            "57: flash.chip_id: expected no chip_id with \"argv\", which asks for none",
        ),
    ] {
        let found = wrong(keys);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{keys}: {found:?}");
    }
    let found = wrong(&format!(r#"{console}"flash":{{"with":"ymodem-uboot","boot":"a\nb"}}"#));
    let ends: Vec<&str> = found.iter().filter_map(|error| error.split("expected ").nth(1)).collect();
    assert_eq!(ends.len(), 4, "{found:?}");
    for word in [
        "an array of U-Boot's commands",
        "a key load",
        "an object of addresses by name",
        "one line of at most 250 bytes",
    ] {
        assert!(ends.iter().any(|end| end.starts_with(word)), "{word}: {found:?}");
    }
    // Argument vectors stay what they are, however odd.
    let odd = r#"{"boards":{"b":{"type":"t","flash":{"with":"argv","argv":["a b; $(x)","--{image}","{}","{ x }","'{tty}'"]}}}}"#;
    let Flasher::Tool { argv, verifies } = read(odd).boards[0].flash.clone().unwrap().with else { panic!() };
    assert_eq!(argv, ["a b; $(x)", "--{image}", "{}", "{ x }", "'{tty}'"]);
    assert!(!verifies);
}

#[test]
fn loaders_at_usb_are_found_by_their_port_and_have_places_of_their_own() {
    let text = r#"{"boards":{
        "d":{"type":"t","flash":{"with":"dfu","usb":"1-1.3","product":"0483:df11","serial":"A 1","targets":{
            "app":"0x08000000","boot":"1","fs":"data","option":{"at":"0x1fffc000","alt":"Option Bytes","size":16}}}},
        "e":{"type":"t","flash":{"with":"dfu","usb":"1-1.4","verifies":false}},
        "f":{"type":"t","flash":{"with":"fastboot","usb":"1-2","expects":{"product":"panda"},"targets":{"boot":"boot_a"}}}}}"#;
    let bench = read(text);
    let [d, e, f] = [0, 1, 2].map(|place| bench.boards[place].flash.clone().expect("a flash"));
    let at =
        AtUsb { port: "1-1.3".into(), product: Some("0483:df11".into()), serial: Some("A 1".into()), verifies: true };
    assert_eq!((&d.with, d.console.as_deref(), d.with.verifies()), (&Flasher::Dfu(at), None, true));
    let places: Vec<_> = d.targets.iter().map(|target| target.alternate.clone().expect("a place of DFU's")).collect();
    let place = |setting, address| Alternate { setting, address };
    assert_eq!(
        places,
        [
            place(Setting::Number(0), Some(0x0800_0000)),
            place(Setting::Number(1), None),
            place(Setting::Name("data".into()), None),
            place(Setting::Name("Option Bytes".into()), Some(0x1fff_c000)),
        ]
    );
    assert_eq!(d.targets[3].size, Some(16));
    assert_eq!(e.targets[0].alternate, Some(place(Setting::Number(0), None)));
    assert!(!e.with.verifies());
    let at = AtUsb { port: "1-2".into(), product: None, serial: None, verifies: false };
    assert_eq!(f.with, Flasher::Fastboot { at, expects: [("product".into(), "panda".into())].into() });
    assert_eq!((f.targets[0].place.as_str(), &f.targets[0].alternate), ("boot_a", &None));
    for (keys, expected) in [
        (r#""flash":{"with":"dfu"}"#, "9: flash: expected a key usb"),
        (r#""flash":{"with":"dfu","usb":"first"}"#, "29: flash.usb: expected a USB port as it is in"),
        (r#""flash":{"with":"dfu","usb":"1-1","product":"df11"}"#, "45: flash.product: expected vendor and product"),
        (r#""flash":{"with":"dfu","usb":"1-1","chip_id":"0x1"}"#, "45: flash.chip_id: expected no key chip_id"),
        (r#""flash":{"with":"dfu","usb":"1-1","baud":9600}"#, "42: flash.baud: expected no key baud with"),
        (r#""flash":{"with":"stm32","usb":"1-1"}"#, "31: flash.usb: expected no key usb with"),
        (
            r#""flash":{"with":"dfu","usb":"1-1","targets":{"a":{"at":"fs","alt":"1"}}}"#,
            "67: flash.targets.a.alt: expected an address in `at` beside it",
        ),
        (
            r#""flash":{"with":"dfu","usb":"1-1","targets":{"a":{"at":"0x0","alt":""}}}"#,
            "68: flash.targets.a.alt: expected the number or name of an alternate setting",
        ),
        (r#""flash":{"with":"fastboot","usb":"1-1"}"#, "9: flash.targets: expected an object of partitions by name"),
        (
            r#""flash":{"with":"fastboot","usb":"1-1","targets":{"a":"b c"}}"#,
            "55: flash.targets.a: expected the name of a partition",
        ),
        (
            r#""flash":{"with":"fastboot","usb":"1-1","expects":{"product":1},"targets":{"a":"b"}}"#,
            "61: flash.expects.product: expected text of at most 60 printable letters",
        ),
    ] {
        let found = wrong(keys);
        let meant = |error: &&String| error.starts_with(expected);
        assert_eq!(found.iter().filter(meant).count(), 1, "{keys}: {found:?}");
    }
    // Nobody knows whose the loader is that is plugged in where two boards have theirs.
    let both = text.replace("1-1.4", "1-1.3");
    let found = errors(both);
    assert!(found.len() == 1 && found[0].contains("the loader at USB port 1-1.3 only once"), "{found:?}");
}

#[test]
fn no_part_of_the_shipped_bench_passes_or_panics() {
    let file = SHIPPED.as_bytes();
    let last = SHIPPED.trim_end().len();
    for end in (0..file.len()).step_by(3) {
        assert_eq!(bench::read("F", &file[..end]).is_ok(), end >= last, "{end}");
        let _ = bench::read("F", &file[end..]);
    }
}

#[test]
fn damaged_benches_never_panic_and_say_where() {
    let mut state: u64 = 0xb0a2d;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let words: Vec<&str> = SHIPPED.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    for _ in 0..2000 {
        // Words put where others were: much of that is still JSON, of something else.
        let mut file: Vec<&str> = words.clone();
        for _ in 0..=random(4) {
            let (from, to) = (random(file.len()), random(file.len()));
            file[to] = if random(3) == 0 { "" } else { words[from] };
        }
        for error in errors(file.concat()) {
            let mut parts = error.split(':');
            assert_eq!(parts.next(), Some("F"));
            assert!(parts.next().is_some_and(|line| line.parse::<u32>().is_ok_and(|line| line > 0)), "{error}");
            assert!(parts.next().is_some_and(|column| column.parse::<u32>().is_ok_and(|column| column > 0)), "{error}");
            assert!(error.contains("expected ") && !error.contains(char::is_control), "{error}");
        }
    }
}

#[test]
fn the_worst_benches_are_quick() {
    let started = std::time::Instant::now();
    let consoles: Vec<String> = (0..20_000).map(|index| format!(r#""c{index}":{{"usb":"1-1"}}"#)).collect();
    assert!(errors(format!(r#"{{"boards":{{"b":{{"type":"t","consoles":{{{}}}}}}}}}"#, consoles.join(","))).len() >= 8);
    let steps = vec!["\"wait 1ms\""; 60_000].join(",");
    assert_eq!(wrong(&format!("\"sequences\":{{\"a\":[{steps}]}}")).len(), 1);
    let modes: Vec<String> =
        (0..3_000).map(|index| format!(r#""m{index}":{{"from":"m{}","do":[]}}"#, index + 1)).collect();
    assert!(!wrong(&format!("\"modes\":{{{}}}", modes.join(","))).is_empty());
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
}
