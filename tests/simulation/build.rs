//! Compiles what stands between the program and the system's clock and chance.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/world.c");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("world.o");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let done =
        Command::new(compiler).args(["-O2", "-fPIC", "-Wall", "-c", "src/world.c", "-o"]).arg(&out).status();
    if !done.is_ok_and(|status| status.success()) {
        println!("cargo::error=world.c does not compile: is there a C compiler?");
    }
    // An object and not a library: nothing asks for it, it stands before the C library.
    println!("cargo::rustc-link-arg-bins={}", out.display());
}
