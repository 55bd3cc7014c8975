//! Command line → the supervisor of one job.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(option), Some(directory)) if option == "--job" => sai_agent::supervisor::main(Path::new(&directory)),
        _ => ExitCode::from(2),
    }
}
