//! Runs natively by `cargo test`: no WebAssembly, no service.

use task_logger_plugin::{Verdict, test::TestHost};

use super::Redactor;

#[test]
fn words_are_replaced_and_counted() {
    let mut host = TestHost::<Redactor>::new(r#"{"words":["hunter2"]}"#).unwrap();
    let verdicts = host.process(&[
        (
            "task:output",
            r#"{"content":"hunter2, \u0068unter2","n":1.0}"#,
        ),
        ("task:output", r#"{"content":"nothing here"}"#),
    ]);
    let replaced = r#"{"content":"[REDACTED], [REDACTED]","n":1.0}"#;
    assert_eq!(
        verdicts.unwrap(),
        [Verdict::Replace(replaced.to_owned()), Verdict::Pass]
    );
    assert_eq!(host.effects().counts["word"], 2);
}

#[test]
fn a_wrong_configuration_is_refused() {
    for config in [
        r#"{"wrods":[]}"#,
        r#"{"words":"hunter2"}"#,
        r#"{"words":[""]}"#,
    ] {
        assert!(TestHost::<Redactor>::new(config).is_err(), "{config}");
    }
}
