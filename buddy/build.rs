//! Profile `small` → a smaller program, see scripts/link_small.rs.

include!("../scripts/link_small.rs");

fn main() {
    link_small();
}
