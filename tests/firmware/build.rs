//! Tells the linker where `memory.x` is, and which scripts link the image.

use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=build.rs");
    // On other targets only the library is compiled, and no image is linked.
    if env::var("CARGO_CFG_TARGET_ARCH")? == "arm" {
        let out = env::var("OUT_DIR")?;
        fs::copy("memory.x", Path::new(&out).join("memory.x"))?;
        println!("cargo:rustc-link-search={out}");
        for script in ["-Tlink.x", "-Tdefmt.x"] {
            println!("cargo:rustc-link-arg-bins={script}");
        }
    }
    Ok(())
}
