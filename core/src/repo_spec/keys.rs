//! The keys of a saifile: what lint takes for known, and what the reference says of each.

use crate::keys::{Key, Part, reference};
use alloc::string::String;

const TIMEOUT: &str = "seconds as a number, or a time as \"90s\", \"15m\", \"2h\", \"1d\"";
const ENV: &str = "an object of texts by name";
const UNITS: &str = "an object of amounts by name, or an array of names of which one each is meant";

/// Keys of the file itself.
pub const FILE: &[Key] = &[
    Key::new("schema", "\"sai-1\"", "that is meant, with a warning", "Says how the file is read.", "\"sai-1\""),
    Key::new("platforms", "an object of platforms by name", "nothing is built", "Where, and how.", ""),
    Key::new("configurations", "an object of configurations by name", "nothing is built", "What, and when.", ""),
];

/// Keys of a platform.
pub const PLATFORM: &[Key] = &[
    Key::new(
        "build",
        "text, or an array of texts, one step each",
        "the platform does not exist",
        "Each step is a script, run by `bash -e`, or `sh -e` where there is no bash, in the checkout. `${name}` stands for the \
         configuration's text of that name; what is no key of it is left for the shell.",
        "[\"cmake -B build ${cmake}\", \"cmake --build build -j$SAI_PARALLEL\"]",
    ),
    Key::new(
        "default",
        "true or false",
        "true",
        "Whether configurations that name no platform are built here.",
        "false",
    ),
    Key::new("timeout", TIMEOUT, "the master's `timeout_s`", "How long a job may take.", "\"2h\""),
    Key::new("step_timeout", TIMEOUT, "the job's time", "How long one of its steps may take.", "\"10m\""),
    Key::new(
        "env",
        ENV,
        "",
        "Variables of the steps. Names that begin with `SAI_` are Sai's own.",
        "{ \"LANG\": \"C.UTF-8\" }",
    ),
    Key::new(
        "units",
        UNITS,
        "",
        "What a job occupies besides a slot while it runs; the master's `units` say how many there are.",
        "{ \"licences\": 1 }",
    ),
    Key::new(
        "root",
        "true or false",
        "false",
        "Whether steps are root, in a user namespace of their own: in containers alone.",
        "true",
    ),
    Key::new(
        "board",
        "an object, or an array of such",
        "",
        "Boards onto which what is built here is flashed and on which it is judged; see boards.",
        "{ \"type\": \"nucleo-f411\", \"flash\": \"fw.bin\", \"pass\": \"^ALL TESTS PASSED\" }",
    ),
];

/// Keys of a configuration that have a meaning; any other whose value is text stands for `${key}` in steps.
pub const CONFIGURATION: &[Key] = &[
    Key::new("cmake", "text", "empty", "Stands for `${cmake}` in steps.", "\"-DTLS=1\""),
    Key::new("cpack", "text", "empty", "Stands for `${cpack}` in steps.", "\"-G DEB\""),
    Key::new("prep", "text", "empty", "Stands for `${prep}` in steps.", "\"./configure\""),
    Key::new(
        "platforms",
        "text, names divided by commas or blanks",
        "the default platforms",
        "Left to right: `none` takes all away, a name adds every platform that it matches and ends the list, `not NAME` takes \
         such away. Names are matched from the left, part by part at `/`, and in a part by whole words at `-`.",
        "\"none, linux-debian-12\"",
    ),
    Key::new(
        "branches",
        "text, globs divided by commas",
        "every branch and tag",
        "The branches whose pushes build it.",
        "\"main, release-*\"",
    ),
    Key::new(
        "paths",
        "text, globs divided by commas",
        "whatever changed",
        "It is built only by pushes that change such a file. Of the globs that match a file's path the last one decides, and one \
         with `!` before it takes away; where the first one does, all else is meant. A `/` at the end means all below. A push is \
         compared, tree against tree, with the last one to the same branch or tag of which anything was built, so that neither a \
         forced push nor one that was wrong or skipped hides a change. Everything is built where that cannot be known: by the \
         first push to a branch, when `.sai.json` itself changed, when that last push is no longer in the repository, and beyond \
         10000 files. What needs others is built with them.",
        "\"src/**, !**/*.md\"",
    ),
    Key::new(
        "artifacts",
        "text, globs divided by commas",
        "no files",
        "The files to keep, by their paths in the checkout; in a container absolute paths too. `?` and `*` stop at `/`, `**` does \
         not, `[a-z]` is one of a set.",
        "\"build/*.deb, **/test-*.xml\"",
    ),
    Key::new(
        "needs",
        "text, names divided by commas, or an array of names",
        "",
        "Configurations that must have passed before, as `NAME` or `NAME@PLATFORM`: on the same platform where they are built \
         there, else on all of theirs. Their files are below `$SAI_NEEDS`.",
        "\"base\"",
    ),
    Key::new("timeout", TIMEOUT, "the platform's", "How long a job may take.", "\"90s\""),
    Key::new("step_timeout", TIMEOUT, "the platform's", "How long one of its steps may take.", "600"),
    Key::new("env", ENV, "", "Variables of the steps, stronger than the platform's.", "{ \"V\": \"1\" }"),
    Key::new("priority", "a whole number from -100 to 100", "0", "A higher one is built earlier.", "10"),
    Key::new("units", UNITS, "", "As a platform's; the larger amount counts where both name one.", "[\"licences\"]"),
    Key::new("root", "true or false", "the platform's", "As a platform's.", "true"),
    Key::new(
        "board",
        "an object, or an array of such",
        "the platform's",
        "As a platform's; an empty array is for none. Its images must be among the artifacts.",
        "[]",
    ),
    Key::new("deps", "anything", "", "Is in older files, and means nothing.", "\"\""),
];

/// The sections of a saifile.
pub const PARTS: &[Part] = &[
    Part { path: ".sai.json", what: "The file stands at the root of what is pushed.", keys: FILE },
    Part {
        path: "platforms.NAME",
        what: "What is wanted of a machine, as `linux-debian-12/x86_64/gcc`. It is matched from the left, so that a machine of \
               that name also serves `linux` and `linux-debian`.",
        keys: PLATFORM,
    },
    Part {
        path: "configurations.NAME",
        what: "A variant of the project; it makes a job on each platform that it selects. Any other key whose value is text \
               stands for `${key}` in steps, as it is.",
        keys: CONFIGURATION,
    },
];

/// The reference of the saifile, as Markdown.
pub fn saifile_reference() -> String {
    reference(
        "The saifile",
        "`.sai.json` says what is built of a push. It is JSON with `#` comments; `sai-master lint .sai.json` checks it by line and \
         column, and `sai-master matrix .sai.json --ref main` shows its jobs.",
        PARTS,
    )
}
