//! Time-stamps: requests, answers, tokens.
#![no_main]

use hufu_gm::{
    Judgement, Trust,
    time_stamp::{self, Answer, Request},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::from_der(data) {
        // What is read is written as it was.
        assert_eq!(request.to_der().unwrap(), data);
    }
    let token = match Answer::from_der(data) {
        Ok(Answer::Granted(token)) => token,
        _ => data.to_vec(),
    };
    // Without an anchor nothing is valid, whatever it is.
    let trust = Trust { anchors: &[], known: &[], crls: &[], at_ns: 0 };
    if let Ok(said) = time_stamp::read(&token) {
        assert!(!matches!(time_stamp::verify(&token, &said.imprint, &trust), Judgement::Valid(_)));
    }
});
