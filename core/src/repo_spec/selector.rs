//! A configuration's selector and a platform → whether it is built there.

use super::{Platform, Token};
use crate::platform;

/// Whether a selector selects a platform: from whether it is a default one, token by token; the first positive match
/// ends the scan.
pub(crate) fn selects(selector: &[Token], platform: &Platform) -> bool {
    let mut selected = platform.default;
    let mut not = false;
    for token in selector {
        match token {
            Token::None => {
                selected = false;
                not = false;
            }
            Token::Not => not = true,
            Token::Name(name) => {
                if platform::serves(&platform.name, &name.value) {
                    if !not {
                        return true;
                    }
                    selected = false;
                }
                not = false;
            }
        }
    }
    selected
}
