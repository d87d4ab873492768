//! Compiles the BPF programs with clang and makes their skeletons, both in `OUT_DIR`.

use std::env;
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    println!("cargo:rerun-if-changed=src/bpf");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let mut args =
        vec!["-mcpu=v3".to_owned(), "-Wall".to_owned(), "-Werror".to_owned(), "-Wno-sign-compare".to_owned()];
    // Debian and Ubuntu keep asm/types.h, which linux/bpf.h includes, in a directory per architecture.
    let headers = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&headers).is_dir() {
        args.push(format!("-I{headers}"));
    }
    for name in ["steer", "adopt", "answers", "copy", "marks"] {
        let source = format!("src/bpf/{name}.bpf.c");
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{name}.bpf.o")))
            .clang_args(&args)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .unwrap_or_else(|error| panic!("cannot compile {source}: {error:#}\nthe build needs clang, libelf and zlib with their headers (Debian: clang libelf-dev zlib1g-dev)"));
    }
}
