//! What was lost comes again, also where nothing new happens that would bring it.

use super::{
    peers::witnesses,
    site::{NAMES, three},
};

#[test]
fn a_word_that_was_lost_comes_again_though_the_log_does_not_grow() {
    let (mut site, _) = three(23, 0);
    site.hears = |from, to| (from, to) != (1, 0);
    site.write(0, 1);
    site.pass(12);
    assert_eq!(witnesses(&site, 0), [NAMES[2]], "the word of b is lost");
    site.hears = |_, _| true;
    // Ten checkpoints would have been made meanwhile.
    site.pass(125);
    assert_eq!(witnesses(&site, 0), [NAMES[1], NAMES[2]]);
}
