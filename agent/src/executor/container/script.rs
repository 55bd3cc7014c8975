//! Steps and their variables → the shell scripts that run inside a container.

use sai_core::ordered::Map;

/// `PATH` in a container: the machine's own means nothing there.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the directory of scripts is, inside.
pub const STEPS: &str = "/sai/steps";
/// The name of the script that runs the others.
pub const LOOP: &str = "loop";
/// The names of the pipes between it and the supervisor.
pub const ORDERS: &str = "orders";
/// See `ORDERS`.
pub const STATUSES: &str = "statuses";
/// See `ORDERS`.
pub const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

/// What the container runs: it takes the numbers of steps one by one, runs each and tells its exit status. It ends with the
/// supervisor, whose end of the orders is then closed, and the container with it.
pub fn steps_loop() -> String {
    format!(
        "PATH={PATH}\nexport PATH\ncd /\ntrap : HUP INT TERM\n\
         exec </dev/null >{STEPS}/{} 2>{STEPS}/{} 3>{STEPS}/{STATUSES} 4<{STEPS}/{ORDERS}\n\
         echo ready >&3\n\
         while read -r step <&4; do\n    (. \"{STEPS}/run-$step\") 3>&- 4<&-\n    echo \"$step $?\" >&3\ndone\n",
        OUTPUTS[0], OUTPUTS[1]
    )
}

/// What starts step `number` (from 1), whose text is in `step-NUMBER`: in a session of its own where the image has `setsid`,
/// so that a step which kills its process group does not kill the loop, and with these variables and no others.
pub fn start_of_step(number: usize, source: &str, environment: &Map<String, String>) -> String {
    let mut script = format!(
        "cd {} || exit 126\nshell=/bin/sh\n[ -x /bin/bash ] && shell=/bin/bash\n\
         session=\ncommand -v setsid >/dev/null && session=setsid\nexec $session env -i",
        quote(source)
    );
    for (name, value) in environment {
        script.push_str(" \\\n    ");
        script.push_str(&quote(&format!("{name}={value}")));
    }
    script.push_str(&format!(" \\\n    \"$shell\" -e {STEPS}/step-{number}\n"));
    script
}

/// A word that a shell takes as it stands.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_takes_each_word_as_it_stands() {
        for text in ["", "plain", "it's", "''", "a\nb", "$(touch /tmp/x) `id` \\ \"q\" *", "-e", "é\u{1}"] {
            let script = format!("printf %s {}", quote(text));
            let output = Command::new("/bin/sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn a_step_starts_with_its_variables_only() {
        let environment = Map::from([("A".to_string(), "1'2".to_string()), ("B-C".to_string(), String::new())]);
        let script = start_of_step(2, "/sai/src", &environment);
        assert!(script.starts_with("cd '/sai/src' || exit 126\n"), "{script}");
        assert!(script.contains("exec $session env -i \\\n    'A=1'\\''2' \\\n    'B-C=' \\\n"), "{script}");
        assert!(script.ends_with("\"$shell\" -e /sai/steps/step-2\n"), "{script}");
        for script in [script, steps_loop()] {
            let checked = Command::new("/bin/sh").arg("-n").arg("-c").arg(&script).status().unwrap();
            assert!(checked.success(), "{script}");
        }
    }
}
