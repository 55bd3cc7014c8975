//! Steps and their variables → the shell scripts that run inside a container.

use crate::boards::PROGRAMS;
use crate::executor::REF;
use sai_core::ordered::Map;
use sai_core::ref_name;

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
/// The name of the pipe that the shell of the loop itself complains into. It tells there that a signal has ended a step, which
/// cannot be seen by the status: that of `exit 137` is the same.
pub const COMPLAINTS: &str = "complaints";
/// See `ORDERS`.
pub const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

/// What the container runs: it takes the numbers of steps one by one, runs each and tells its exit status. It ends with the
/// supervisor, whose end of the orders is then closed, and the container with it.
pub fn steps_loop() -> String {
    format!(
        "PATH={PATH}\nexport PATH\ncd /\ntrap : HUP INT TERM\n\
         exec </dev/null >{STEPS}/{} 2>{STEPS}/{COMPLAINTS} 3>{STEPS}/{STATUSES} 4<{STEPS}/{ORDERS} 5>{STEPS}/{}\n\
         echo ready >&3\n\
         while read -r step <&4; do\n    (. \"{STEPS}/run-$step\") 2>&5 3>&- 4<&- 5>&-\n    echo \"$step $?\" >&3\ndone\n",
        OUTPUTS[0], OUTPUTS[1]
    )
}

/// Where `setsid` may be in an image.
pub const SETSID: [&str; 2] = ["/usr/bin/setsid", "/bin/setsid"];

/// What starts step `number` (from 1), whose text is in `step-NUMBER`: in a session of its own where the image has `setsid`,
/// so that a step which kills its process group does not kill the loop, and with these variables and no others: the loop has
/// none but those that shells give themselves.
pub fn start_of_step(number: usize, source: &str, environment: &Map<String, String>) -> String {
    let mut script = format!(
        "cd {} || exit 126\nunset OLDPWD SHLVL\nshell=/bin/sh\n[ -x /bin/bash ] && shell=/bin/bash\nsession=\n",
        quote(source)
    );
    for place in SETSID {
        script.push_str(&format!("[ -x {place} ] && session={place}\n"));
    }
    let mut others = String::new();
    for (name, value) in environment {
        if name == REF && value.contains('\\') {
            // Bytes that no text can hold: a name has no other backslash, and none of what printf(1) takes for its own.
            let octal = ref_name::bytes(value)
                .unwrap_or_default()
                .iter()
                .fold(String::new(), |text, byte| text + &format!("\\0{byte:03o}"));
            script.push_str(&format!("{REF}=$(printf %b '{octal}')\nexport {REF}\n"));
        } else if is_plain(name, value) {
            script.push_str(&format!("export {name}={}\n", quote(value)));
        } else {
            others.push_str(&format!(" \\\n    {}", quote(&format!("{name}={value}"))));
        }
    }
    // A program more to be started, so only for what cannot be had without.
    let env = if others.is_empty() { "" } else { " env" };
    script.push_str(&format!("exec $session{env}{others} \"$shell\" -e {STEPS}/step-{number}\n"));
    script
}

/// Whether a variable can be exported by every shell and means nothing to it while it starts a step. A saifile's own may be
/// anything.
fn is_plain(name: &str, value: &str) -> bool {
    // Another one is for the step, not for what starts it.
    let behind = value.strip_prefix(PATH).filter(|_| name == "PATH");
    let usual = behind.is_some_and(|behind| behind.is_empty() || behind == format!(":{STEPS}/{PROGRAMS}"));
    let letters = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let ours = name.starts_with("SAI_") || ["CI", "HOME", "LANG", "SHELL", "TERM", "TMPDIR"].contains(&name);
    usual || (letters && ours)
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
        let of = |pairs: &[(&str, &str)]| -> Map<String, String> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let usual = of(&[("SAI_JOB", "1'2"), ("PATH", PATH), ("HOME", "")]);
        let plain = start_of_step(2, "/sai/src", &usual);
        assert!(plain.starts_with("cd '/sai/src' || exit 126\n"), "{plain}");
        assert!(plain.contains("\nexport SAI_JOB='1'\\''2'\n") && plain.contains("\nexport HOME=''\n"), "{plain}");
        assert!(plain.ends_with("\nexec $session \"$shell\" -e /sai/steps/step-2\n"), "{plain}");
        let bytes = start_of_step(2, "/sai/src", &of(&[("SAI_REF", "refs/heads/caf\\xe9'$(x)")]));
        let line = bytes.lines().find(|line| line.starts_with("SAI_REF=")).unwrap();
        let script = format!("{line}\nprintf %s \"$SAI_REF\"");
        let output = Command::new("/bin/sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(output.stdout, b"refs/heads/caf\xe9'$(x)");
        let strange = of(&[("PATH", "/x"), ("SAI_b;c", "1"), ("IFS", "x"), ("OPTIND", "x"), ("UID", "0"), ("CI", "")]);
        let strange = start_of_step(2, "/sai/src", &strange);
        let words = "exec $session env \\\n    'IFS=x' \\\n    'OPTIND=x' \\\n    'PATH=/x' \\\n    'SAI_b;c=1' \\\n    'UID=0' \"$shell\"";
        assert!(strange.contains(words) && strange.matches("export ").count() == 1, "{strange}");
        for script in [plain, strange, steps_loop()] {
            let checked = Command::new("/bin/sh").arg("-n").arg("-c").arg(&script).status().unwrap();
            assert!(checked.success(), "{script}");
        }
    }
}
