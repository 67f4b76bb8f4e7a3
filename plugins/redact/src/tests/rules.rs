//! Each rule: what it takes, and what looks like it and stays.

use super::*;

fn vendor_tokens() -> Vec<(&'static str, String)> {
    vec![
        ("github_token", format!("ghp_{}", noise(36, 1))),
        ("github_token", format!("gho_{}", noise(36, 2))),
        ("github_token", format!("ghs_{}", noise(36, 3))),
        ("github_token", format!("github_pat_{}_{}", noise(22, 4), noise(59, 5))),
        ("gitlab_token", format!("glpat-{}", noise(20, 6))),
        ("aws_access_key", format!("AKIA{}", noise(16, 7).to_uppercase())),
        ("slack_token", format!("xoxb-{}-{}-{}", "123456789012", "1234567890123", noise(24, 8))),
        ("slack_webhook", format!("hooks.slack.com/services/T0{}/B0{}/{}", "12345678", "12345678", noise(24, 9))),
        ("stripe_key", format!("sk_live_{}", noise(24, 10))),
        ("stripe_key", format!("rk_live_{}", noise(24, 11))),
        ("webhook_secret", format!("whsec_{}", noise(32, 12))),
        ("anthropic_key", format!("sk-ant-api03-{}-{}AA", noise(40, 13), noise(50, 14))),
        ("openai_key", format!("sk-{}", noise(48, 15))),
        ("openai_key", format!("sk-proj-{}_{}-{}", noise(40, 16), noise(20, 17), noise(20, 18))),
        ("openrouter_key", format!("sk-or-v1-{}", hex(64, 19))),
        ("google_api_key", format!("AIza{}", noise(35, 20))),
        ("npm_token", format!("npm_{}", noise(36, 21))),
        ("pypi_token", format!("pypi-{}", noise(150, 22))),
        ("huggingface_token", format!("hf_{}", noise(34, 23))),
        ("sendgrid_key", format!("SG.{}.{}", noise(22, 24), noise(43, 25))),
        ("twilio_key", format!("SK{}", hex(32, 26))),
        ("supabase_token", format!("sbp_{}", hex(40, 27))),
        ("xai_key", format!("xai-{}", noise(80, 28))),
        ("groq_key", format!("gsk_{}", noise(52, 29))),
        ("tavily_key", format!("tvly-dev-{}", noise(32, 30))),
        ("jwt", format!("eyJ{}.eyJ{}.{}", noise(33, 31), noise(60, 32), noise(43, 33))),
    ]
}

#[test]
fn every_vendor_token_goes_whatever_it_stands_in() {
    let redactor = redactor();
    for (code, token) in vendor_tokens() {
        let mark = format!("[REDACTED:{code}]");
        for (before, after) in [
            ("", ""),
            ("see ", " there"),
            ("(", ")"),
            ("\"", "\","),
            ("line\n", "\n"),
            ("a=", "&b"),
            ("\\n", "\\n"),
            ("\u{1b}[32m", "\u{1b}[0m"),
            ("é", "é"),
        ] {
            assert_eq!(
                text(&redactor, &format!("{before}{token}{after}")),
                format!("{before}{mark}{after}"),
                "{token}"
            );
        }
        // As a key, in an array, and in JSON inside JSON inside JSON.
        let key = serde_json::json!({ &token: 1, "list": [&token] }).to_string();
        assert!(!alone(&redactor, &key).contains(&token));
        let nested = serde_json::json!({ "a": serde_json::json!({ "b": serde_json::json!({ "c": &token }).to_string() }).to_string() });
        let result = alone(&redactor, &nested.to_string());
        assert!(!result.contains(&token) && result.contains(&mark), "{result}");
        // Too short to be one.
        let short = &token[..token.len().min(8)];
        assert_eq!(text(&redactor, short), short);
    }
}

#[test]
fn telegram_tokens_go_and_the_bots_number_stays() {
    let token = format!("123456789:AA{}", noise(33, 40));
    assert_eq!(text(&redactor(), &format!("bot {token}.")), "bot 123456789:[REDACTED:telegram_token].");
}

#[test]
fn literals_hidden_by_escapes_are_found() {
    let redactor = redactor();
    let token = noise(36, 41);
    for data in [
        format!(r#"{{"content":"\u0067hp_{token}"}}"#),
        format!(r#"{{"content":"{{\"a\":\"\\u0067hp_{token}\"}}"}}"#),
        r#"{"content":"https:\/\/user:hunter2@host\/"}"#.to_owned(),
        r#"{"content":"{\"u\":\"https:\\/\\/user:hunter2@host\"}"}"#.to_owned(),
        r#"{"pass\u0077ord":"hunter2"}"#.to_owned(),
    ] {
        let result = alone(&redactor, &data);
        assert!(result.contains("[REDACTED:") && !result.contains(&token) && !result.contains("hunter2"), "{result}");
    }
}

#[test]
fn blocks_go_with_all_their_lines() {
    let redactor = redactor();
    for name in [
        "RSA PRIVATE KEY",
        "PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    ] {
        for newline in ["\n", "\r\n", "\\n", "\n    ", "\\r\\n", "\" +\n  \"", "\n  12→", "\n> "] {
            let block = key_block(name, 25, newline);
            assert_eq!(
                text(&redactor, &format!("key:\n{block}\nafter")),
                "key:\n[REDACTED:private_key]\nafter",
                "{block}"
            );
        }
    }
    // Cut off, as tool results are.
    let block = key_block("RSA PRIVATE KEY", 20, "\n");
    assert_eq!(text(&redactor, &block[..600]), "[REDACTED:private_key]");
    assert_eq!(
        text(&redactor, &format!("{}\nand this is prose again", &block[..600])),
        "[REDACTED:private_key]\nand this is prose again"
    );
    let with_headers = block.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233\n\n", 1);
    assert_eq!(text(&redactor, &with_headers), "[REDACTED:private_key]");
    let key = serde_json::Value::from(key_block("PRIVATE KEY", 25, "\n") + "\n");
    assert_eq!(
        alone(&redactor, &format!(r#"{{"type":"service_account","private_key":{key}}}"#)),
        r#"{"type":"service_account","private_key":"[REDACTED:private_key]\n"}"#
    );
    for innocent in [
        "look for -----BEGIN PRIVATE KEY----- in the file and so on",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "if text.startswith(\"-----BEGIN PRIVATE KEY-----\") {",
    ] {
        assert_eq!(text(&redactor, innocent), innocent);
    }
    let public = key_block("PUBLIC KEY", 5, "\n");
    assert_eq!(text(&redactor, &public), public);
}

#[test]
fn headers_go_up_to_their_end() {
    let redactor = redactor();
    for (before, after) in [
        ("Authorization: Bearer abc123def456", "Authorization: Bearer [REDACTED:authorization]"),
        ("authorization: Basic dXNlcjpwYXNz\r\nHost: x", "authorization: Basic [REDACTED:authorization]\r\nHost: x"),
        (
            "Proxy-Authorization: Digest username=\"u\", response=1",
            "Proxy-Authorization: Digest [REDACTED:authorization]\"u\", response=1",
        ),
        (
            "curl -H 'Authorization: token 0123456789abcdef' x",
            "curl -H 'Authorization: token [REDACTED:authorization]' x",
        ),
        ("Cookie: sid=abcdef; theme=dark\nnext", "Cookie: [REDACTED:cookie]\nnext"),
        ("Set-Cookie: sid=abcdef; Path=/; HttpOnly", "Set-Cookie: [REDACTED:cookie]"),
        ("X-Api-Key: abcdef0123456789", "X-Api-Key: [REDACTED:api_key]"),
        (
            "headers={'Authorization': 'Bearer abc123def456'}",
            "headers={'Authorization': 'Bearer [REDACTED:authorization]'}",
        ),
        ("uses Bearer abcdefghijkl0123456789 here", "uses Bearer [REDACTED:authorization] here"),
    ] {
        assert_eq!(text(&redactor, before), after);
    }
    for innocent in [
        "Authorization: required for all routes",
        "Authorization: Bearer ${TOKEN}",
        "Authorization: Bearer <token>",
        "authorization: none",
        "Basic authorization is checked",
        "Cookie: yes",
        "the bearer of this",
        "headers[\"Authorization\"] = f\"Bearer {token}\"",
    ] {
        assert_eq!(text(&redactor, innocent), innocent);
    }
    assert_eq!(
        alone(
            &redactor,
            r#"{"headers":{"Authorization":"Bearer abc123def","cookie":"a=bcdefghij","Accept":"*/*","X-Api-Key":"k1234567"}}"#
        ),
        r#"{"headers":{"Authorization":"Bearer [REDACTED:authorization]","cookie":"[REDACTED:cookie]","Accept":"*/*","X-Api-Key":"[REDACTED:api_key]"}}"#
    );
}

#[test]
fn url_passwords_go_and_the_rest_stays() {
    let redactor = redactor();
    for (before, after) in [
        ("postgres://app:s3cr3t!@db:5432/x", "postgres://app:[REDACTED:url_password]@db:5432/x"),
        ("redis://:hunter2@cache", "redis://:[REDACTED:url_password]@cache"),
        ("x https://u:p@ss@host/p y", "x https://u:[REDACTED:url_password]@host/p y"),
        ("https://0123456789abcdef0123@github.com/x", "https://[REDACTED:url_password]@github.com/x"),
    ] {
        assert_eq!(text(&redactor, before), after);
    }
    for innocent in [
        "https://example.com:8080/a@b:c",
        "ssh://git@github.com:22/x",
        "git@github.com:org/repo.git",
        "https://user:${PASS}@host",
        "https://medium.com/@user:x",
        "std::io://",
    ] {
        assert_eq!(text(&redactor, innocent), innocent);
    }
}

#[test]
fn assignments_go_in_every_spelling() {
    let redactor = redactor();
    for (before, after) in [
        ("DB_PASSWORD=hunter2", "DB_PASSWORD=[REDACTED:password]"),
        ("export PGPASSWORD=a,b;c&d", "export PGPASSWORD=[REDACTED:password]"),
        ("password: hunter2\nuser: x", "password: [REDACTED:password]\nuser: x"),
        ("password: swordfish\n", "password: [REDACTED:password]\n"),
        ("passwd = 'correct horse'", "passwd = '[REDACTED:password]'"),
        ("const dbPassword = \"hunter2\";", "const dbPassword = \"[REDACTED:password]\";"),
        (
            "{\\\"password\\\": \\\"hunter2\\\", \\\"a\\\": 1}",
            "{\\\"password\\\": \\\"[REDACTED:password]\\\", \\\"a\\\": 1}",
        ),
        ("'client_secret' => 'abc123'", "'client_secret' => '[REDACTED:secret]'"),
        ("config[\"secret_key\"] = \"abc123\"", "config[\"secret_key\"] = \"[REDACTED:secret]\""),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzzz1",
            "aws_secret_access_key = [REDACTED:secret]",
        ),
        ("login --password swordfish --user x", "login --password [REDACTED:password] --user x"),
        ("login --token=abc12345 x", "login --token=[REDACTED:token] x"),
        ("GET /?access_token=abc12345&x=1", "GET /?access_token=[REDACTED:token]&x=1"),
        ("apiKey: 'abc12345'", "apiKey: '[REDACTED:api_key]'"),
        ("API key: abc12345", "API key: [REDACTED:api_key]"),
        ("AccountName=x;AccountKey=abcd1234efgh==;End", "AccountName=x;AccountKey=[REDACTED:azure_storage_key];End"),
        ("<password>hunter2</password>", "<password>[REDACTED:password]</password>"),
        ("ALTER USER x PASSWORD 'hunter2'", "ALTER USER x PASSWORD '[REDACTED:password]'"),
        ("mysql -u root -phunter2 db", "mysql -u root -p[REDACTED:password] db"),
        ("sshpass -p hunter2 ssh x", "sshpass -p [REDACTED:password] ssh x"),
        ("curl -u me:hunter2 http://x", "curl -u me:[REDACTED:password] http://x"),
        ("Password: pâsswörd1 ok", "Password: [REDACTED:password] ok"),
        ("token1: abc12345", "token1: [REDACTED:token]"),
    ] {
        assert_eq!(text(&redactor, before), after);
    }
}

#[test]
fn what_only_looks_like_an_assignment_stays() {
    let redactor = redactor();
    for innocent in [
        "max_tokens: 1234567890",
        "input_tokens=12345678 output_tokens=87654321",
        "token_type: bearer12345",
        "next_page_token: abc12345678",
        "<eos_token>: 12345678",
        "password: str",
        "password: Optional[str] = None",
        "def login(user, password=None):",
        "connect(user=user, password=password)",
        "connect(password=db_password)",
        "password = get_password()",
        "password = os.environ[\"X\"]",
        "token = self.token",
        "PASSWORD=${DB_PASSWORD}",
        "PASSWORD=$DB_PASSWORD",
        "PASSWORD=",
        "password: ****",
        "password: <your password>",
        "password: {{ vault }}",
        "if password == other:",
        "Token::new(x)",
        "secret://name",
        "PWD=/home/me",
        "OLDPWD=/home/a/abc123",
        "Enter the password: then press return",
        "tests pass: all of them",
        "the token is cut here",
        "forgot_password: page12345",
        "bypass=abc12345",
        "mkdir -p abc/def1",
        "docker run -u 1000:1000 x",
        "curl -pu x",
    ] {
        assert_eq!(text(&redactor, innocent), innocent);
    }
    for data in [
        r#"{"token":123,"tokens":["abc12345"],"password":null,"secret":true,"api_key":"","usage":{"input_tokens":5}}"#,
        r#"{"password":"${DB}","secret":"<secret>","token":"none","password2":"[REDACTED:password]"}"#,
        r#"{"password":{"type":"string"},"n":1.50,"e":1E5,"big":12345678901234567890}"#,
    ] {
        assert_eq!(alone(&redactor, data), data);
    }
}

#[test]
fn json_keys_announce_and_nothing_else_changes() {
    assert_eq!(
        alone(
            &redactor(),
            r#"{ "z" : 1.50, "password":"x y", "a":[1E5,{"clientSecret":"é\n"}], "refresh_token":"abc12345", "secrets":["s1"], "env":[{"name":"DB_PASSWORD","value":"hunter2"},{"name":"A","value":"b"}], "u":"\u00e9" }"#
        ),
        r#"{ "z" : 1.50, "password":"[REDACTED:password]", "a":[1E5,{"clientSecret":"[REDACTED:secret]"}], "refresh_token":"[REDACTED:token]", "secrets":["s1"], "env":[{"name":"DB_PASSWORD","value":"[REDACTED:password]"},{"name":"A","value":"b"}], "u":"\u00e9" }"#
    );
}

#[test]
fn identifiers_hashes_and_pictures_stay() {
    let redactor = redactor();
    let picture = noise(60_000, 50);
    for innocent in [
        hex(40, 51),
        hex(64, 52),
        "123e4567-e89b-12d3-a456-426614174000".to_owned(),
        format!("sha512-{}==", noise(86, 53)),
        format!("toolu_{}", noise(24, 54)),
        format!("msg_{}", noise(24, 55)),
        format!("call_{}", noise(24, 56)),
        format!("task-{}", hex(12, 57)),
        format!("disk-{}", hex(40, 58)),
        format!("data:image/png;base64,{picture}"),
        format!("AKIA{picture}AIza{picture}"),
    ] {
        assert_eq!(text(&redactor, &innocent), innocent);
    }
    let data = format!(
        r#"{{"type":"thinking","signature":"{}AKIA{}{picture}","id":"toolu_{}"}}"#,
        noise(50, 59),
        noise(16, 60).to_uppercase(),
        noise(24, 61)
    );
    assert_eq!(alone(&redactor, &data), data);
}

#[test]
fn a_second_pass_changes_nothing() {
    let redactor = redactor();
    let mut parts: Vec<String> = vendor_tokens().into_iter().map(|(_, token)| token).collect();
    parts.extend(
        [
            "password=",
            "\"secret\": \"",
            "hunter2",
            "\n",
            " ",
            "Authorization: Basic ",
            "Cookie: a=b",
            "https://u:",
            "@host/",
            "--token ",
            "[REDACTED:token]",
            "mysql -p",
            "\\",
            "\"",
            "'",
            "=",
            ":",
            "é",
            "<secret>",
            "export PASSWORD=",
        ]
        .map(str::to_owned),
    );
    parts.push(key_block("PRIVATE KEY", 3, "\n"));
    let mut random = Random(77);
    for round in 0..3000 {
        let whole: String = (0..random.below(9)).map(|_| parts[random.below(parts.len())].as_str()).collect();
        let once = text(&redactor, &whole);
        assert_eq!(text(&redactor, &once), once, "round {round}: {whole:?}");
    }
}

#[test]
fn configuration_adds_and_takes_away() {
    let with = |config: &str| Redactor::new(config).unwrap();
    let token = format!("ghp_{}", noise(36, 70));
    assert_eq!(text(&with(r#"{"disable":["github_token"]}"#), &token), token);
    assert_eq!(text(&with(r#"{"disable":["password"]}"#), "password=hunter2"), "password=hunter2");
    let keys = with(r#"{"keys":["db-dsn"]}"#);
    assert_eq!(text(&keys, "MY_DB_DSN=abcd"), "MY_DB_DSN=[REDACTED:key]");
    assert_eq!(alone(&keys, r#"{"dbDsn":"abcd"}"#), r#"{"dbDsn":"[REDACTED:key]"}"#);
    let values = with(r#"{"values":["tr0ub4dor&3"]}"#);
    assert_eq!(text(&values, "xtr0ub4dor&3x"), "x[REDACTED:value]x");
    let allow = with(r#"{"allow":["hunter\\d"]}"#);
    assert_eq!(text(&allow, "password=hunter2"), "password=hunter2");
    assert_eq!(text(&allow, "password=hunter23"), "password=[REDACTED:password]");
    for (config, said) in [
        ("[]", "config: expected a map"),
        (r#"{"values":["short"]}"#, "entry 0"),
        (r#"{"disable":["nothing"]}"#, "nothing"),
        (r#"{"allow":["("]}"#, "allow"),
        (r#"{"keys":["-"]}"#, "keys"),
        (r#"{"vlaues":[]}"#, "vlaues"),
    ] {
        let error = Redactor::new(config).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(CODES.len() <= 255);
    for code in CODES.iter() {
        assert!(
            code.len() <= 40 && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{code}"
        );
    }
}

#[test]
fn what_is_not_json_is_not_passed_when_it_may_hold_a_secret() {
    let redactor = redactor();
    for data in [
        r#"{"a":"password=hunter2"#,
        r#"{"password":"hunter2"}}"#,
        &format!(r#"{}"password":"hunter2""#, "[".repeat(600)),
    ] {
        let outcome = redactor.process("", &[Event { kind: "task:tool_result", data }], true);
        assert_eq!(outcome.verdicts, [Verdict::NotJson]);
    }
}
