//! Components that no compiler makes: a small valid plugin in WebAssembly text, of which a test replaces single parts by what
//! a hostile author would write.

/// A plugin as text. The default passes everything; an event is poison when its data begins `{"content":"P`.
pub(crate) struct Hostile<'a> {
    /// Manifest name.
    pub(crate) name: &'a str,
    /// Whether it says that it is a redactor.
    pub(crate) redactor: bool,
    /// Manifest version.
    pub(crate) version: &'a str,
    /// The only file of the manifest.
    pub(crate) file: &'a str,
    /// Instructions before `init` answers; locals `$ret`.
    pub(crate) init: &'a str,
    /// Instructions for a poison event: `$event`, `$verdict` and `$ret` point to it, to its verdict (pass) and to what
    /// `process` returns (a list of passes); `$answer` is where it says that this stands.
    pub(crate) misdeed: &'a str,
    /// Instructions before `process` looks at its events.
    pub(crate) process: &'a str,
    /// Instructions of the function called after a result was read; `$poisoned` says whether there was poison.
    pub(crate) post: &'a str,
    /// Instructions before memory is handed out; `$size` is what is asked for.
    pub(crate) realloc: &'a str,
    /// Further fields of the core module, imports first.
    pub(crate) core: &'a str,
    /// Further fields of the component, before the core module.
    pub(crate) component: &'a str,
    /// What the core module is instantiated with beside memory and host.
    pub(crate) with: &'a str,
    /// `utf8`, `utf16` or `latin1+utf16`.
    pub(crate) encoding: &'a str,
}

/// Where the texts of a manifest begin.
const TEXTS: usize = 1024;
/// Static data ends here, memory that is handed out begins.
const HEAP: usize = 128 << 10;

impl Default for Hostile<'_> {
    fn default() -> Self {
        Self {
            name: "hostile",
            redactor: false,
            version: "1",
            file: "hostile.txt",
            init: "",
            misdeed: "",
            process: "",
            post: "",
            realloc: "",
            core: "",
            component: "",
            with: "",
            encoding: "utf8",
        }
    }
}

impl Hostile<'_> {
    /// One that does this with a poison event.
    pub(crate) fn on_poison(misdeed: &str) -> Vec<u8> {
        Hostile { misdeed, ..Hostile::default() }.build()
    }

    /// The component's bytes.
    #[track_caller]
    pub(crate) fn build(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn text(&self) -> String {
        let Self { component, with, encoding, .. } = self;
        let (core, exports) = (self.module(), exports());
        let types = TYPES.map(|(name, shape)| format!("(type ${name} {shape})")).join("\n  ");
        format!(
            r#"(component
  {HOST}
  {component}
  (core module $memory (memory (export "memory") 3))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (core func $log (canon lower (func $host "log") (memory $mem) string-encoding={encoding}))
  (core func $count (canon lower (func $host "count") (memory $mem) string-encoding={encoding}))
  (core func $set-state (canon lower (func $host "set-state") (memory $mem) string-encoding={encoding}))
  (core func $append (canon lower (func $host "append-file") (memory $mem) string-encoding={encoding}))
  (core func $annotate (canon lower (func $host "annotate") (memory $mem) string-encoding={encoding}))
  (core instance $host-funcs (export "log" (func $log)) (export "count" (func $count))
    (export "set-state" (func $set-state)) (export "append-file" (func $append)) (export "annotate" (func $annotate)))
  {core}
  (core instance $main (instantiate $main (with "memory" (instance $memory)) (with "host" (instance $host-funcs)) {with}))
  {types}
  (func $init {INIT}
    (canon lift (core func $main "init") (memory $mem) (realloc (core func $main "realloc")) string-encoding={encoding}))
  (func $process {PROCESS}
    (canon lift (core func $main "process") (memory $mem) (realloc (core func $main "realloc")) (post-return (core func $main "post"))
      string-encoding={encoding}))
  {exports}
)"#
        )
    }

    fn module(&self) -> String {
        let Self { init, misdeed, process, post, realloc, core, .. } = self;
        let wide = self.encoding == "utf16";
        // Texts one after the other, each with where it begins and how many code units it has.
        let mut data = Vec::new();
        let mut place = |text: &str| {
            let at = TEXTS + data.len();
            match wide {
                true => text.encode_utf16().for_each(|unit| data.extend(unit.to_le_bytes())),
                false => data.extend(text.bytes()),
            }
            let units = if wide { text.encode_utf16().count() } else { text.len() };
            (at, units)
        };
        let (name, version, star, file, code) =
            (place(self.name), place(self.version), place("*"), place(self.file), place("hostile"));
        assert!(TEXTS + data.len() < HEAP, "static data is full");
        let data: String = data.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let role = u8::from(!self.redactor);
        let pair = |at: usize, (text, units): (usize, usize)| {
            format!(
                "(i32.store (i32.const {at}) (i32.const {text})) (i32.store (i32.const {}) (i32.const {units}))",
                at + 4
            )
        };
        // The lists of one text each stand at 640; the manifest at 512.
        let texts = [pair(516, name), pair(524, version), pair(640, star), pair(648, file), pair(656, code)].concat();
        let lists = [pair(536, (640, 1)), pair(544, (648, 1)), pair(552, (656, 1))].concat();
        format!(
            r#"(core module $main
    (import "memory" "memory" (memory 3))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "count" (func $count (param i32 i32 i32)))
    (import "host" "set-state" (func $set-state (param i32 i32)))
    (import "host" "append-file" (func $append (param i32 i32 i32 i32)))
    (import "host" "annotate" (func $annotate (param i32 i32)))
    {core}
    (global $top (mut i32) (i32.const {HEAP}))
    (global $poisoned (mut i32) (i32.const 0))
    (global $answer (mut i32) (i32.const 0))
    (data (i32.const {TEXTS}) "{data}")
    (func $alloc (param $size i32) (result i32) (local $at i32) (local $pages i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (local.set $pages (i32.sub (i32.add (i32.shr_u (global.get $top) (i32.const 16)) (i32.const 1)) (memory.size)))
      (if (i32.gt_s (local.get $pages) (i32.const 0)) (then
        (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then unreachable))))
      (local.get $at))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      {realloc}
      (call $alloc (local.get $size)))
    (func $misdeed (param $event i32) (param $verdict i32) (param $ret i32) (local $i i32)
      {misdeed})
    (func (export "init") (param i32 i32) (result i32) (local $ret i32) (local $i i32)
      (local.set $ret (i32.const 512))
      {texts} {lists}
      (i32.store8 (i32.const 532) (i32.const {role}))
      {init}
      (local.get $ret))
    (func (export "process") (param $some i32) (param $task i32) (param $task-len i32) (param $events i32) (param $n i32)
      (param $flush i32) (result i32) (local $ret i32) (local $verdict i32) (local $i i32)
      (local.set $ret (i32.const 768))
      (global.set $answer (local.get $ret))
      (local.set $verdict (call $alloc (i32.mul (local.get $n) (i32.const 12))))
      (i32.store8 (local.get $ret) (i32.const 0))
      (i32.store offset=4 (local.get $ret) (local.get $verdict))
      (i32.store offset=8 (local.get $ret) (local.get $n))
      {process}
      (block $done (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (if (i32.eq (i32.load8_u offset=12 (i32.load offset=24 (local.get $events))) (i32.const 80)) (then
          (global.set $poisoned (i32.const 1))
          (call $misdeed (local.get $events) (local.get $verdict) (local.get $ret))))
        (local.set $events (i32.add (local.get $events) (i32.const 32)))
        (local.set $verdict (i32.add (local.get $verdict) (i32.const 12)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
      (global.get $answer))
    (func (export "post") (param $ret i32)
      {post})
  )"#
        )
    }
}

const HOST: &str = r#"(import "task-logger:plugin/host@1.0.0" (instance $host
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "count" (func (param "name" string) (param "n" u32)))
    (export "set-state" (func (param "value" string)))
    (export "append-file" (func (param "name" string) (param "text" string)))
    (export "annotate" (func (param "json" string)))))"#;

/// The interface's types, each of what stands before it.
const TYPES: [(&str, &str); 5] = [
    ("role", r#"(enum "redactor" "standard")"#),
    (
        "manifest",
        r#"(record (field "name" string) (field "version" string) (field "role" $role) (field "kinds" (list string))
      (field "files" (list string)) (field "codes" (list string)))"#,
    ),
    ("event", r#"(record (field "id" string) (field "kind" string) (field "timestamp-ms" f64) (field "data" string))"#),
    (
        "verdict",
        r#"(variant (case "pass") (case "replace" string) (case "drop" string) (case "hold") (case "quarantine" string))"#,
    ),
    ("failure", r#"(record (field "message" string))"#),
];
const INIT: &str = r#"(param "config" string) (result (result $manifest (error $failure)))"#;
const PROCESS: &str = r#"(param "task" (option string)) (param "events" (list $event)) (param "flush" bool)
    (result (result (list $verdict) (error $failure)))"#;

/// The exported instance. Types of an exported function must be exported with it, which an instance of a component does.
fn exports() -> String {
    let each = |line: fn(&str, &str) -> String| TYPES.map(|(name, shape)| line(name, shape)).join("\n    ");
    let imported =
        each(|name, shape| format!(r#"(type ${name}' {shape}) (import "import-{name}" (type ${name} (eq ${name}')))"#));
    // The same once more under other names, of exported types only.
    let renamed = |text: &str| {
        TYPES.iter().fold(text.to_owned(), |text, (name, _)| text.replace(&format!("${name}"), &format!("$out-{name}")))
    };
    let exported = TYPES
        .map(|(name, shape)| {
            format!(r#"(type $new-{name} {}) (export $out-{name} "{name}" (type $new-{name}))"#, renamed(shape))
        })
        .join("\n    ");
    let with = each(|name, _| format!(r#"(with "import-{name}" (type ${name}))"#));
    format!(
        r#"(component $processor
    {imported}
    (import "import-init" (func $init {INIT}))
    (import "import-process" (func $process {PROCESS}))
    {exported}
    (export "init" (func $init) (func {}))
    (export "process" (func $process) (func {})))
  (instance $processor (instantiate $processor {with} (with "import-init" (func $init)) (with "import-process" (func $process))))
  (export "task-logger:plugin/processor@1.0.0" (instance $processor))"#,
        renamed(INIT),
        renamed(PROCESS)
    )
}
