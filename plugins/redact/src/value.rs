//! Whether what is assigned to a secret's name is a secret: placeholders, type names and references to variables are not.

/// How much a name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// `password`, `secret`: whatever stands there counts.
    Strong,
    /// `token`, `api_key`: also used for harmless things, so the value must look the part.
    Weak,
}

/// How a value stood in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A JSON string, as a whole.
    Json,
    /// In quotes.
    Quoted,
    /// Bare, right after `=` or a long option: what shells and `.env` files have.
    Bare,
    /// Bare, with space before it, as in YAML or prose; `ends_line` tells these two apart.
    Spaced {
        /// Nothing but the value stands there up to the end of the line.
        ends_line: bool,
    },
}

/// Values that stand for no value, in lower case.
const STOPWORDS: &[&str] = &[
    "null",
    "none",
    "nil",
    "true",
    "false",
    "undefined",
    "string",
    "str",
    "text",
    "bytes",
    "bool",
    "boolean",
    "int",
    "integer",
    "number",
    "float",
    "object",
    "array",
    "any",
    "secretstr",
    "optional",
    "option",
    "required",
    "hidden",
    "masked",
    "redacted",
    "removed",
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "unset",
    "empty",
    "missing",
    "invalid",
    "yes",
    "no",
    "input",
    "field",
    "value",
    "varchar",
    "unknown",
    "never",
    "always",
    "self",
    "this",
    "flag",
    "argument",
    "parameter",
    "from",
    "stdin",
    "file",
    "prompt",
    "function",
    "const",
    "async",
    "await",
    "return",
    "type",
    "bearer",
    "basic",
    "public",
    "private",
    "the",
    "and",
    "with",
    "for",
    "authorization",
    "cookie",
    "inherit",
    "write",
    "read",
];

/// Whether a value is to be redacted.
pub(crate) fn is_secret(value: &str, strength: Strength, form: Form) -> bool {
    let value = value.trim();
    // What an earlier pass left must not make a value of what was none.
    if value.is_empty() || is_placeholder(value) || value.contains("[REDACTED:") {
        return false;
    }
    let digits = value.bytes().any(|byte| byte.is_ascii_digit());
    let word = value.bytes().all(|byte| byte.is_ascii_alphabetic());
    let least = match (strength, form) {
        (Strength::Strong, Form::Json) => 1,
        (Strength::Strong, _) => 4,
        (Strength::Weak, _) => 8,
    };
    if value.len() < least || STOPWORDS.iter().any(|stop| stop.eq_ignore_ascii_case(value)) {
        return false;
    }
    if strength == Strength::Weak {
        let solid = !value.bytes().any(|byte| byte.is_ascii_whitespace());
        return solid && (digits || value.len() >= 20) && !is_reference(value, form);
    }
    match form {
        Form::Json | Form::Quoted => true,
        Form::Bare => !is_reference(value, form),
        Form::Spaced { ends_line } => {
            !is_reference(value, form) && (digits || (ends_line && word) || !is_identifier(value))
        }
    }
}

/// A hole for a value: `${NAME}`, `<password>`, `****`, and what a redactor left.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let bytes = value.as_bytes();
    let Some(first) = bytes.first() else { return true };
    match first {
        b'$' => matches!(bytes.get(1), Some(b'{' | b'(' | b'A'..=b'Z' | b'a'..=b'z' | b'_')),
        b'{' => matches!(bytes.get(1), Some(b'{' | b'%')) || (value.ends_with('}') && !value.contains(':')),
        b'<' => true,
        b'%' => matches!(bytes.get(1), Some(b's' | b'(' | b'{' | b'v')),
        b'[' => value.starts_with("[REDACTED:"),
        _ => bytes.iter().all(|byte| byte == first) && matches!(first, b'*' | b'x' | b'X' | b'.' | b'-' | b'_' | b'#'),
    }
}

/// A name of something that holds the value: `self.password`, `os.environ`, `db_password`.
fn is_reference(value: &str, form: Form) -> bool {
    let lower = value.to_ascii_lowercase();
    if [
        "process.env",
        "os.environ",
        "os.getenv",
        "env.",
        "secrets.",
        "self.",
        "this.",
        "config.",
        "settings.",
        "args.",
        "op://",
    ]
    .iter()
    .any(|start| lower.starts_with(start))
    {
        return true;
    }
    if !is_identifier(value) {
        return false;
    }
    let digits = value.bytes().any(|byte| byte.is_ascii_digit());
    // `password=db_password)` hands a variable on; `x.y.z` without a digit is a path in code.
    let names_itself = ["password", "passwd", "secret", "token", "key", "pwd"].iter().any(|end| lower.ends_with(end));
    let spaced = matches!(form, Form::Spaced { .. });
    !digits && (names_itself || value.contains('.') || (spaced && value.contains('_')))
}

fn is_identifier(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
        && !value.as_bytes().first().is_some_and(u8::is_ascii_digit)
}
