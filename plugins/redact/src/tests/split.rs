//! Every kind of secret, cut at every place, and in up to eight pieces: the pieces together are the whole's redaction; with a
//! flush at the cut no more than the kind's public prefix is seen.

use std::ops::Range;

use super::{streams::run, *};
use crate::tokens::TOKENS;

/// A text with one secret in it.
struct Sample {
    kind: &'static str,
    before: String,
    /// What may be seen of it: what all secrets of the kind begin with.
    public: String,
    secret: String,
    after: &'static str,
}

impl Sample {
    fn text(&self) -> String {
        format!("{}{}{}{}", self.before, self.public, self.secret, self.after)
    }

    /// How much the pieces show that they may not, if they do.
    fn leak(&self, out: &str) -> Option<String> {
        let seen = without_marks(out);
        let chars: Vec<char> = self.secret.chars().collect();
        let window =
            chars.windows(4).map(|window| window.iter().collect::<String>()).find(|window| seen.contains(window));
        let may = self.before.len() + self.public.len() + self.after.len();
        // Shorter parts are found by what is too much.
        window.or_else(|| (seen.len() > may).then(|| format!("{} bytes too many in {seen:?}", seen.len() - may)))
    }
}

fn without_marks(text: &str) -> String {
    let mut parts = text.split("[REDACTED:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| out.push_str(part.split_once(']').map_or("", |(_, rest)| rest)));
    out
}

/// One of each vendor's token, and of everything that is known by its name or place.
fn samples(redactor: &Redactor) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (n, token) in (1..).zip(TOKENS) {
        let (before, public, after) = match token.prefix {
            ":AA" => ("bot 123456789", ":AA", " is it."),
            "sig=" => ("see https://h.example/x?se=2026&", "sig=", " for it."),
            prefix => ("the key is ", prefix, " and no more."),
        };
        // The longest alphabet that the kind takes.
        let found = [noise(200, n), noise(200, n).to_uppercase(), hex(200, n)].into_iter().find_map(|all| {
            (8..200).find_map(|length| {
                let secret = match token.prefix {
                    "eyJ" => format!("{}.eyJ{}.{}", &all[..20], &all[20..50], &all[50..90]),
                    _ => all.get(..length)?.to_owned(),
                };
                let sample =
                    Sample { kind: token.code, before: before.to_owned(), public: public.to_owned(), secret, after };
                let out = run(redactor, &[&sample.text()], |_| false).concat();
                let is_found = out.contains(&format!("[REDACTED:{}]", token.code)) && sample.leak(&out).is_none();
                is_found.then_some(sample)
            })
        });
        samples.push(found.unwrap_or_else(|| panic!("no sample of {token:?}")));
    }
    for (kind, before, after) in [
        ("password", "run with DB_PASSWORD=", "\nnext line"),
        ("password", "then password: ", "\nnext line"),
        ("password", "and {\"password\": \"", "\", \"x\": 1}"),
        ("password", "login --password ", " --user me"),
        ("secret", "or {\\\"client_secret\\\": \\\"", "\\\", \\\"x\\\": 1}"),
        ("token", "GET /x?access_token=", "&page=2 HTTP"),
        ("api_key", "X-Api-Key: ", "\r\nAccept: all"),
        ("azure_storage_key", "EndpointSuffix=x;AccountKey=", ";x=y"),
        ("authorization", "curl -H 'Authorization: Basic ", "' http://host/ x"),
        ("cookie", "Cookie: sid=", "\nAccept: all"),
        ("url_password", "at postgres://app:", "@db:5432/x now"),
        ("key", "then MY_THING=", "\nnext line"),
        ("key", "then my.thing: ", "\nnext line"),
        ("password", "PGPASSWORD=", ";x)\nnext line"),
        ("password", "say PGPASSWORD=", ";x)\nnext line"),
        ("password", "\nexport dbpassword2=", " next"),
        ("password", "a\\npassphrase: ", "\\n"),
        ("password", "mysqldump --host h -p", " db"),
        ("password", "sshpass -p ", " ssh h"),
        ("password", "curl -s --user me:", " http://h"),
        ("password", "curl -u me:", " http://h"),
        ("api_key", "api key: ", "\nnext"),
        ("api_key", "My-Auth-Key: ", "\nnext"),
        ("token", "<access_token>", "</access_token>"),
    ] {
        let secret = format!("q{}7", noise(30, 900 + samples.len() as u64));
        samples.push(Sample { kind, before: before.to_owned(), public: String::new(), secret, after });
    }
    samples
}

fn with_key() -> Redactor {
    Redactor::new(r#"{"keys":["my-thing"]}"#).unwrap()
}

/// A text in so many pieces, cut anywhere in `range`.
fn cut<'a>(text: &'a str, range: &Range<usize>, count: usize, random: &mut Random) -> Vec<&'a str> {
    let mut places: Vec<usize> =
        (range.start + 1..range.end.min(text.len())).filter(|at| text.is_char_boundary(*at)).collect();
    let mut cuts: Vec<usize> = Vec::new();
    while cuts.len() < count - 1 && !places.is_empty() {
        cuts.push(places.swap_remove(random.below(places.len())));
    }
    cuts.sort_unstable();
    at_cuts(text, &cuts)
}

fn at_cuts<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
    let begins = std::iter::once(0).chain(cuts.iter().copied());
    begins.zip(cuts.iter().copied().chain([text.len()])).map(|(from, to)| &text[from..to]).collect()
}

#[test]
fn every_kind_has_a_sample() {
    let samples = samples(&with_key());
    // A block has lines, which `streams` cuts; a configured value is known by itself.
    let others = ["private_key", "value"];
    for code in CODES.iter().filter(|code| !others.contains(code)) {
        assert!(samples.iter().any(|sample| sample.kind == *code), "{code}");
    }
}

#[test]
fn every_kind_cut_at_every_place_gives_what_the_whole_gives() {
    let redactor = with_key();
    let mut failures = Vec::new();
    for sample in samples(&redactor) {
        let text = sample.text();
        let whole = run(&redactor, &[&text], |_| false).concat();
        assert_eq!(sample.leak(&whole), None, "{text:?} became {whole:?}");
        for at in (1..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let (head, tail) = text.split_at(at);
            let out = run(&redactor, &[head, tail], |_| false).concat();
            if out != whole {
                failures.push(format!("{}: {head:?} | {tail:?} became {out:?}", sample.kind));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures, such as\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

#[test]
fn every_kind_cut_at_every_place_with_a_second_between_shows_its_public_prefix_at_most() {
    let redactor = with_key();
    let mut failures = Vec::new();
    for sample in samples(&redactor) {
        let text = sample.text();
        for at in (1..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let (head, tail) = text.split_at(at);
            let out = run(&redactor, &[head, tail], |_| true);
            if let Some(leak) = sample.leak(&out.concat()) {
                failures.push(format!("{}: {head:?} | {tail:?} became {out:?}: {leak}", sample.kind));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures, such as\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

#[test]
fn every_kind_in_up_to_eight_pieces() {
    let redactor = with_key();
    let seed = 20_263;
    let mut random = Random(seed);
    let mut failures = Vec::new();
    for sample in samples(&redactor) {
        let text = sample.text();
        let whole = run(&redactor, &[&text], |_| false).concat();
        // Half of the cuts in what announces the secret, in pieces of a letter or two.
        let announced = sample.before.len().saturating_sub(14)..(sample.before.len() + sample.public.len() + 3);
        for count in 3..=8 {
            for round in 0..12 {
                let range = if round % 2 == 0 { 0..text.len() } else { announced.clone() };
                let pieces = cut(&text, &range, count, &mut random);
                let out = run(&redactor, &pieces, |_| false).concat();
                if out != whole {
                    failures.push(format!("{}: {pieces:?} became {out:?}", sample.kind));
                }
                let every = 1 + random.below(4);
                let out = run(&redactor, &pieces, |_| random.below(every) == 0);
                if let Some(leak) = sample.leak(&out.concat()) {
                    failures.push(format!("{}, flushed: {pieces:?} became {out:?}: {leak}", sample.kind));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "seed {seed}: {} failures, such as\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

/// Every way to cut what announces a secret into up to eight pieces, where there are not too many; in between, some.
#[test]
fn what_announces_a_secret_in_every_way_in_up_to_eight_pieces() {
    let redactor = with_key();
    for (before, after) in [
        ("X-Api-Key: ", "\r\nA: b"),
        ("password=", " x"),
        ("api_key: ", "\nx"),
        ("--token ", " x"),
        ("AccountKey=", ";x"),
        ("Cookie: s=", "\nx"),
        ("my_thing=", "\nx"),
        (" mysql -p", " x"),
        ("at x://u:", "@h x"),
        ("a Bearer ", " x"),
        ("\"apiKey\":\"", "\""),
        ("ghp_", " x"),
        (".sk-ant-", " x"),
        ("-----BEGIN", " PRIVATE KEY-----\nqQ7zZ8kW2mN4xR6tY8uI0oP1\n-----END PRIVATE KEY-----"),
    ] {
        let secret = "q7Zk2mN4xR6tY8uI0oP1aS3dF5gH7";
        let secret = if before.starts_with('-') && after.contains("END") { "" } else { secret };
        let text = format!("{before}{secret}{after}");
        let whole = run(&redactor, &[&text], |_| false).concat();
        assert!(whole.contains("[REDACTED:"), "{whole}");
        let until = before.len() + secret.len().min(1);
        for bits in 1_u32..1 << (until - 1) {
            if bits.count_ones() > 7 {
                continue;
            }
            let cuts: Vec<usize> = (1..until).filter(|at| bits >> (at - 1) & 1 == 1).collect();
            let pieces = at_cuts(&text, &cuts);
            assert_eq!(run(&redactor, &pieces, |_| false).concat(), whole, "{pieces:?}");
            // Each piece a second after the one before: the value goes, and all that is no part of the secret stays.
            let late = run(&redactor, &pieces, |_| true).concat();
            assert!(!late.contains(&secret[secret.len().min(1)..]) || secret.is_empty(), "{pieces:?} became {late:?}");
            assert!(!late.contains("qQ7z"), "{pieces:?} became {late:?}");
        }
    }
}

/// What texts leave behind is as good as they themselves: no text with names, programs, boundaries and escapes in it is
/// redacted otherwise in pieces than as a whole.
#[test]
fn random_texts_in_random_pieces_give_what_the_whole_gives() {
    const PARTS: &[&str] = &[
        "password",
        "PASS",
        "pass",
        "Token",
        "api",
        "key",
        "Key",
        "X-",
        "_",
        "-",
        "--",
        ".",
        "=",
        ": ",
        ":",
        " ",
        "\n",
        "\\n",
        "\\",
        "%41",
        "\u{1b}[32m",
        "[",
        "7",
        "12345678",
        "mysql",
        "curl",
        "sshpass",
        " -p",
        " -u ",
        " --user ",
        "me:",
        "export ",
        "<",
        ">",
        "account",
        "page_",
        "document.",
        "cookie",
        "secret",
        "q7Zk2mN4xR6t",
        "hunter2hunter",
        "ghp_",
        "0123456789abcdefABCDEFxx",
        "AKIA",
        "ABCDEFGHIJKLMNOP",
        "sig=",
        "?",
        "&",
        ";",
        "://",
        "u:pw77@h",
        "/",
        "a",
        "it's",
        "é",
        "Bearer ",
        "sk-",
        "my-thing",
        "the",
        "|",
        "my",
    ];
    let redactor = with_key();
    let seed = 20_264;
    let mut random = Random(seed);
    let mut failures = Vec::new();
    for round in 0..6000 {
        let mut text: String = (0..2 + random.below(9)).map(|_| PARTS[random.below(PARTS.len())]).collect();
        text.push_str(" .\n");
        let whole = run(&redactor, &[&text], |_| false).concat();
        for _ in 0..3 {
            let pieces = cut(&text, &(0..text.len()), 2 + random.below(7), &mut random);
            let out = run(&redactor, &pieces, |_| false).concat();
            if out != whole {
                failures.push(format!("round {round}: {pieces:?} became {out:?}, the whole {whole:?}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "seed {seed}: {} failures, such as\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

#[test]
fn configured_values_in_every_way_in_up_to_eight_pieces() {
    let value = "tr0ub4dor&3xyz";
    let redactor =
        Redactor::new(&serde_json::json!({ "values": [value, "tr0ub&other", "0ub4dor&"] }).to_string()).unwrap();
    for (before, shown) in [("say =", "say ="), ("say an", "say an")] {
        let text = format!("{before}{value} b");
        let whole = run(&redactor, &[&text], |_| false).concat();
        assert_eq!(whole, format!("{before}[REDACTED:value] b"));
        for bits in (1_u32..1 << value.len()).filter(|bits| bits.count_ones() <= 7) {
            let cuts: Vec<usize> =
                (0..value.len()).filter(|at| bits >> at & 1 == 1).map(|at| before.len() + at).collect();
            let pieces = at_cuts(&text, &cuts);
            assert_eq!(run(&redactor, &pieces, |_| false).concat(), whole, "{pieces:?}");
            let late = without_marks(&run(&redactor, &pieces, |_| true).concat());
            let seen = late.strip_prefix(shown).and_then(|rest| rest.strip_suffix(" b"));
            // In the middle of a word the first three letters may go.
            let most = if before.ends_with('=') { "" } else { "tr0" };
            assert!(seen.is_some_and(|seen| most.starts_with(seen)), "{pieces:?} became {late:?}");
        }
    }
}
