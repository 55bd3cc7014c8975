// Profile `small` → the arguments that make the linker's part of it small. Included by the build scripts of the programs.
//
// That profile ends the process on a panic, so nothing ever unwinds, but the tables that only serve to unwind would still
// make up an eighth of the program; Cargo cannot yet tell the compiler to leave them out in one profile, so the linker does.
// LLD, which rustup's compiler brings along and uses, also folds functions that came out the same, and packs relocations
// where the C library can read them packed (glibc 2.36 and later): together a twentieth.

/// The first release of rustc whose default linker on x86-64 is the LLD it brings along.
const FIRST_WITH_LLD: u32 = 90;
/// The first 2.x of glibc that reads packed relocations, see its release notes on DT_RELR.
const FIRST_WITH_PACKED: u32 = 36;

fn link_small() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/no-unwind-tables.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../scripts/link_small.rs");
    println!("cargo:rerun-if-changed={script}");
    // Only that profile optimises for size, and only it may lose the tables.
    if !is("OPT_LEVEL", "z") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    if links_with_lld() {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        if second_number("getconf", &["GNU_LIBC_VERSION"]) >= Some(FIRST_WITH_PACKED) {
            println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
}

fn is(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|found| found == value)
}

/// Whether rustc is one that brings LLD along and is left to use it.
fn links_with_lld() -> bool {
    let rustc = std::env::var("RUSTC").unwrap_or_default();
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let lld = "lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld.lld";
    is("TARGET", "x86_64-unknown-linux-gnu")
        && std::env::var_os("RUSTC_LINKER").is_none()
        && !["linker", "fuse-ld"].iter().any(|word| flags.contains(word))
        && second_number(&rustc, &["--version"]) >= Some(FIRST_WITH_LLD)
        && printed(&rustc, &["--print", "sysroot"])
            .is_some_and(|root| std::path::Path::new(root.trim()).join(lld).exists())
}

/// What a program prints; `None` when it is not there or fails.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The 36 of `glibc 2.36`, the 95 of `rustc 1.95.0 (…)`.
fn second_number(program: &str, arguments: &[&str]) -> Option<u32> {
    printed(program, arguments)?.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}
