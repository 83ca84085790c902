//! Hands the linker the order of the functions that run often, where packaging (`packaging/flags.sh`) names it.

fn main() {
    println!("cargo:rerun-if-env-changed=HUFU_SYMBOL_ORDER");
    if let Some(path) = std::env::var_os("HUFU_SYMBOL_ORDER") {
        let path = path.display();
        println!("cargo:rerun-if-changed={path}");
        println!("cargo:rustc-link-arg-bin=hufu=-Wl,--symbol-ordering-file={path}");
        println!("cargo:rustc-link-arg-bin=hufu=-Wl,--no-warn-symbol-ordering");
    }
}
