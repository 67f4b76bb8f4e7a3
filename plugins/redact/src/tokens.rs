//! Vendor tokens: a literal that only this vendor uses, then a run of bytes of one class. A token is found by its literal
//! and ends where the run ends, so a run that reaches the end of a text is known to be unfinished.

use crate::scan::{Context, Edge, Found, Open, boundary, strict_boundary};

/// One vendor's token.
#[derive(Debug)]
pub(crate) struct Token {
    /// What it begins with, case and all.
    pub(crate) prefix: &'static str,
    /// Kind in `[REDACTED:kind]`, and counter name.
    pub(crate) code: &'static str,
    class: u8,
    min: usize,
    max: usize,
}

const ALNUM: u8 = 1;
const UNDERSCORE: u8 = 2;
const DASH: u8 = 4;
const DOT: u8 = 8;
/// `+`, `/` and `=`.
const BASE64: u8 = 16;
const LOWER_HEX: u8 = 32;
const UPPER_DIGIT: u8 = 64;
const PERCENT: u8 = 128;
const WORD: u8 = ALNUM | UNDERSCORE;
const URL64: u8 = WORD | DASH;
const ANY: usize = 1024;

static CLASSES: [u8; 256] = classes();

/// Runs are at least `min` and at most `max` bytes long after the prefix; where the vendor fixes the length both are the
/// same, elsewhere `min` lies well below any token seen and well above words that look alike.
pub(crate) static TOKENS: &[Token] = &[
    token("ghp_", "github_token", WORD, 20, ANY),
    token("gho_", "github_token", WORD, 20, ANY),
    token("ghu_", "github_token", WORD, 20, ANY),
    token("ghs_", "github_token", WORD | DASH | DOT, 20, ANY),
    token("ghr_", "github_token", WORD, 20, ANY),
    token("github_pat_", "github_token", WORD, 20, ANY),
    token("glpat-", "gitlab_token", URL64 | DOT, 16, ANY),
    token("gldt-", "gitlab_token", URL64, 16, ANY),
    token("glptt-", "gitlab_token", URL64, 16, ANY),
    token("glrt-", "gitlab_token", URL64 | DOT, 16, ANY),
    token("glcbt-", "gitlab_token", URL64, 16, ANY),
    token("gloas-", "gitlab_token", URL64, 16, ANY),
    token("AKIA", "aws_access_key", UPPER_DIGIT, 16, 16),
    token("ASIA", "aws_access_key", UPPER_DIGIT, 16, 16),
    token("ABSK", "aws_bedrock_key", ALNUM | BASE64, 60, ANY),
    token("xoxb-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xoxp-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xoxa-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xoxr-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xoxs-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xoxc-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xoxd-", "slack_token", ALNUM | DASH | BASE64 | PERCENT, 10, ANY),
    token("xoxe.", "slack_token", ALNUM | DASH | DOT, 10, ANY),
    token("xoxe-", "slack_token", ALNUM | DASH, 10, ANY),
    token("xapp-", "slack_token", ALNUM | DASH, 10, ANY),
    token("hooks.slack.com/services/", "slack_webhook", WORD | BASE64, 20, ANY),
    token("hooks.slack.com/workflows/", "slack_webhook", WORD | BASE64, 20, ANY),
    token("discord.com/api/webhooks/", "discord_webhook", URL64 | BASE64, 20, ANY),
    token("discordapp.com/api/webhooks/", "discord_webhook", URL64 | BASE64, 20, ANY),
    token("sk_live_", "stripe_key", ALNUM, 10, ANY),
    token("sk_test_", "stripe_key", ALNUM, 10, ANY),
    token("rk_live_", "stripe_key", ALNUM, 10, ANY),
    token("rk_test_", "stripe_key", ALNUM, 10, ANY),
    token("whsec_", "webhook_secret", ALNUM | BASE64, 20, ANY),
    token("sk-ant-", "anthropic_key", URL64, 16, ANY),
    token("sk-or-v1-", "openrouter_key", ALNUM, 20, ANY),
    token("sk-proj-", "openai_key", URL64, 20, ANY),
    token("sk-svcacct-", "openai_key", URL64, 20, ANY),
    token("sk-admin-", "openai_key", URL64, 20, ANY),
    token("sk-lf-", "langfuse_key", ALNUM | DASH, 30, ANY),
    // OpenAI's first form, which many others copied: no dash in it, which keeps words-in-a-slug out.
    token("sk-", "openai_key", WORD, 28, ANY),
    token("AIza", "google_api_key", URL64, 35, 35),
    token("GOCSPX-", "google_client_secret", URL64, 24, ANY),
    token("ya29.", "google_oauth_token", URL64 | DOT, 20, ANY),
    token("npm_", "npm_token", ALNUM, 36, 36),
    token("pypi-", "pypi_token", URL64, 50, ANY),
    token("rubygems_", "rubygems_key", LOWER_HEX, 48, 48),
    token("cio", "crates_io_token", ALNUM, 32, 32),
    token("hf_", "huggingface_token", ALNUM, 30, ANY),
    token("r8_", "replicate_token", ALNUM, 30, ANY),
    token("SG.", "sendgrid_key", URL64 | DOT, 60, ANY),
    token("SK", "twilio_key", LOWER_HEX, 32, 32),
    token("sbp_", "supabase_token", WORD, 36, ANY),
    token("sb_secret_", "supabase_token", URL64, 20, ANY),
    token("xai-", "xai_key", ALNUM, 40, ANY),
    token("gsk_", "groq_key", ALNUM, 30, ANY),
    token("tvly-", "tavily_key", ALNUM | DASH, 20, ANY),
    token("pplx-", "perplexity_key", ALNUM, 30, ANY),
    token("fw_", "fireworks_key", ALNUM, 22, ANY),
    token("nvapi-", "nvidia_key", URL64, 40, ANY),
    token("lsv2_pt_", "langsmith_key", WORD, 32, ANY),
    token("lsv2_sk_", "langsmith_key", WORD, 32, ANY),
    token("dop_v1_", "digitalocean_token", LOWER_HEX, 64, 64),
    token("doo_v1_", "digitalocean_token", LOWER_HEX, 64, 64),
    token("shpat_", "shopify_token", LOWER_HEX, 32, 32),
    token("shpss_", "shopify_token", LOWER_HEX, 32, 32),
    token("dapi", "databricks_token", LOWER_HEX, 32, 32),
    token("lin_api_", "linear_key", ALNUM, 30, ANY),
    token("ntn_", "notion_token", ALNUM, 30, ANY),
    token("PMAK-", "postman_key", ALNUM | DASH, 40, ANY),
    token("dp.pt.", "doppler_token", ALNUM, 30, ANY),
    token("dp.st.", "doppler_token", URL64 | DOT, 30, ANY),
    token("hvs.", "vault_token", URL64, 20, ANY),
    token("hvb.", "vault_token", URL64, 20, ANY),
    token("ATATT3", "atlassian_token", URL64 | BASE64, 50, ANY),
    token("ATCTT3", "atlassian_token", URL64 | BASE64, 50, ANY),
    token("dckr_pat_", "docker_token", URL64, 20, ANY),
    token("pscale_tkn_", "planetscale_token", URL64 | DOT, 20, ANY),
    token("pscale_pw_", "planetscale_token", URL64 | DOT, 20, ANY),
    token("NRAK-", "newrelic_key", UPPER_DIGIT, 27, 27),
    token("sntrys_", "sentry_token", URL64 | BASE64, 40, ANY),
    token("sntryu_", "sentry_token", LOWER_HEX, 64, 64),
    token("glsa_", "grafana_token", WORD, 30, ANY),
    token("glc_", "grafana_token", ALNUM | BASE64, 40, ANY),
    token("figd_", "figma_token", URL64, 30, ANY),
    token("AGE-SECRET-KEY-1", "age_key", UPPER_DIGIT, 58, 58),
    token("sq0csp-", "square_token", URL64, 40, ANY),
    token("EAAAE", "square_token", URL64, 55, ANY),
    token("tskey-", "tailscale_key", ALNUM | DASH, 20, ANY),
    token("fo1_", "fly_token", URL64, 40, ANY),
    token("fm2_", "fly_token", URL64 | BASE64, 40, ANY),
    token("shptka_", "shopify_token", LOWER_HEX, 32, 32),
    token("v1.0-", "cloudflare_key", LOWER_HEX | DASH, 160, ANY),
    token("Bearer ", "authorization", URL64 | DOT | BASE64, 20, ANY),
    token("bearer ", "authorization", URL64 | DOT | BASE64, 20, ANY),
    token("sig=", "azure_sas_signature", ALNUM | BASE64 | PERCENT | DASH | UNDERSCORE, 43, ANY),
    token(":AA", "telegram_token", URL64, 30, 40),
    token("eyJ", "jwt", URL64 | DOT, 30, 64 * 1024),
];

const fn token(prefix: &'static str, code: &'static str, class: u8, min: usize, max: usize) -> Token {
    Token { prefix, code, class, min, max }
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut class = 0;
        if b.is_ascii_alphanumeric() {
            class |= ALNUM;
        }
        if b.is_ascii_digit() || matches!(b, b'a'..=b'f') {
            class |= LOWER_HEX;
        }
        if b.is_ascii_digit() || b.is_ascii_uppercase() {
            class |= UPPER_DIGIT;
        }
        class |= match b {
            b'_' => UNDERSCORE,
            b'-' => DASH,
            b'.' => DOT,
            b'+' | b'/' | b'=' => BASE64,
            b'%' => PERCENT,
            _ => 0,
        };
        table[byte] = class;
        byte += 1;
    }
    table
}

// === impl Token ===

impl Token {
    /// Whether a hit in undecoded text is worth decoding it: the prefix as it must be spelled, and a run that is long enough
    /// or reaches the end of its string.
    pub(crate) fn plausible(&self, raw: &[u8], start: usize) -> bool {
        if !raw[start..].starts_with(self.prefix.as_bytes()) {
            return false;
        }
        // What is a letter here may be the end of an escape: `\n`, `\u0009`. Two kinds look for more than a boundary, which
        // may stand in an earlier text.
        let escaped = |back: usize| start >= back && raw[start - back] == b'\\';
        let inside = !boundary(raw, start) && !escaped(2) && !escaped(6);
        if inside && !matches!(self.code, "telegram_token" | "azure_sas_signature") {
            return false;
        }
        let from = start + self.prefix.len();
        let end = self.run(raw, from);
        end - from >= self.min || matches!(raw.get(end), None | Some(b'"' | b'\\'))
    }

    /// Reports the token whose prefix stands at `start`, if it is one.
    pub(crate) fn find(&self, text: &str, start: usize, edge: Edge, found: &mut Found) {
        let bytes = text.as_bytes();
        if !bytes[start..].starts_with(self.prefix.as_bytes()) {
            return;
        }
        let from = start + self.prefix.len();
        // Where a mark will stand before it, it has its boundary.
        if !found.ends_at(start) && !self.bounded(bytes, start) {
            return;
        }
        // What is not secret in a prefix stays on the page.
        let secret = start + self.shown();
        let end = self.run(bytes, from);
        let length = end - from;
        if end == bytes.len() && edge == Edge::Open && length <= self.max {
            let redact = (length > 0).then_some(secret);
            // What follows must be taken for the rest: of a fixed length what is missing, else of any length.
            let filler = if self.max < ANY || redact.is_none() { length } else { self.min };
            found.open(Open { start, redact, code: self.code, context: self.context(filler), named: false });
        } else if length >= self.min && length <= self.max && self.accepts(&bytes[from..end]) {
            found.add(start, secret, end, self.code);
        }
    }

    fn shown(&self) -> usize {
        match self.code {
            "telegram_token" => 1,
            "authorization" => self.prefix.len(),
            _ => 0,
        }
    }

    fn context(&self, filler: usize) -> Context {
        let filler = "0".repeat(filler);
        Context::Text(match self.prefix {
            ":AA" => format!("00000000:AA{filler}"),
            "eyJ" if !filler.is_empty() => "eyJhbGciOiJIUzI1NiJ9.eyJ0IjoxfQ.0000000000".to_owned(),
            // What began as this may go on as any key that begins so: the widest class of them.
            "sk-" if !filler.is_empty() => format!("sk-proj-{filler}"),
            prefix => format!("{prefix}{filler}"),
        })
    }

    fn run(&self, bytes: &[u8], from: usize) -> usize {
        let limit = bytes.len().min(from + self.max + 5);
        let length =
            bytes[from..limit].iter().take_while(|byte| CLASSES[usize::from(**byte)] & self.class != 0).count();
        // Five dashes are the edge of a block.
        let block = (self.class & DASH != 0 && length >= 5)
            .then(|| bytes[from..from + length].windows(5).position(|window| window == b"-----"))
            .flatten();
        from + block.unwrap_or(length)
    }

    /// Whether a token may begin at `start`, by what stands before it.
    pub(crate) fn bounded(&self, bytes: &[u8], start: usize) -> bool {
        match self.code {
            // The bot's number, which is no secret, comes before.
            "telegram_token" => {
                let digits = bytes[..start].iter().rev().take(12).take_while(|byte| byte.is_ascii_digit()).count();
                digits >= 8 || digits == start
            }
            "azure_sas_signature" => {
                matches!(start.checked_sub(1).map(|at| bytes[at]), None | Some(b'?' | b'&' | b';'))
            }
            "cloudflare_key" | "fireworks_key" | "crates_io_token" | "twilio_key" | "databricks_token" => {
                strict_boundary(bytes, start)
            }
            _ => boundary(bytes, start),
        }
    }

    /// What the run's bytes must show beyond class and length.
    fn accepts(&self, run: &[u8]) -> bool {
        match self.code {
            // Three parts, none of them short.
            "jwt" => {
                let mut parts = run.split(|byte| *byte == b'.');
                let long = |part: Option<&[u8]>, min: usize| part.is_some_and(|part| part.len() >= min);
                long(parts.next(), 8) && long(parts.next(), 4) && parts.next().is_some()
            }
            // Slugs have neither digits nor capitals.
            "openai_key" | "anthropic_key" | "slack_token" | "authorization" => {
                run.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
            }
            _ => true,
        }
    }
}
