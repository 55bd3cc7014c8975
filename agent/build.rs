//! Profile `small` → a program without unwind tables.
//!
//! That profile ends the process on a panic, so nothing ever unwinds, but the tables that only serve to unwind would still
//! make up an eighth of the program. Cargo cannot yet tell the compiler to leave them out in one profile, so the linker does.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../scripts/no-unwind-tables.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // Only that profile optimises for size, and only it may lose the tables.
    if is("OPT_LEVEL", "z") && is("CARGO_CFG_TARGET_OS", "linux") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/no-unwind-tables.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
        println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}
