//! What only packaging asks of the linker: the order of the functions that run often (`packaging/flags.sh`), and a map of where they
//! came to lie (`packaging/order.sh`).

fn main() {
    println!("cargo:rerun-if-env-changed=HUFU_SYMBOL_ORDER");
    println!("cargo:rerun-if-env-changed=HUFU_LINK_MAP");
    let ask = |option: &str| println!("cargo:rustc-link-arg-bin=hufu=-Wl,{option}");
    if let Ok(path) = std::env::var("HUFU_SYMBOL_ORDER") {
        println!("cargo:rerun-if-changed={path}");
        ask(&format!("--symbol-ordering-file={path}"));
        ask("--no-warn-symbol-ordering");
    }
    if let Ok(path) = std::env::var("HUFU_LINK_MAP") {
        ask(&format!("-Map={path}"));
        ask("--no-demangle");
    }
}
