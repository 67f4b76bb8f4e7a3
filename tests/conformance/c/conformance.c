/* The conformance guest in C: does what an event's data says under "do". See ../README.md.
 *
 * Its JSON and its bindings are those of the template for C (plugins/templates/c): what authors start from is what is tested. */
#include <stdlib.h>
#include <string.h>

#include "bindings/plugin.h"
#include "json.h"

typedef exports_task_logger_plugin_processor_manifest_t manifest;
typedef exports_task_logger_plugin_processor_event_t event;
typedef exports_task_logger_plugin_processor_verdict_t verdict;
typedef exports_task_logger_plugin_processor_failure_t failure;

#define PASS EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_PASS
#define REPLACE EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_REPLACE
#define DROP EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_DROP
#define HOLD EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_HOLD
#define QUARANTINE EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_QUARANTINE

/* The largest count and the largest state that are read. */
#define COUNT_MAX 0xffffffffULL
#define STATE_MAX 999999999999999999ULL

static const char *const FILES[] = {"conformance.jsonl", "conformance.txt"};
static const char *const CODES[] = {"init", "counted", "dropped", "refused"};
static const char *const LEVELS[] = {"debug", "info", "warn", "error"};

/* One call's events and what they are about. */
typedef struct {
    const plugin_string_t *task;
    const exports_task_logger_plugin_processor_list_event_t *events;
    bool flush;
    text said; /* why the call fails, if it does */
} call;

static plugin_string_t constant(const char *str) {
    plugin_string_t set;
    plugin_string_set(&set, str);
    return set;
}

static plugin_string_t borrow(const text *from) { return (plugin_string_t){(uint8_t *)from->ptr, from->len}; }

/* Hands a text over to whoever frees it. The receiver frees nothing that is empty. */
static plugin_string_t give(text *from) {
    plugin_string_t given = borrow(from);
    if (from->len == 0) free(from->ptr);
    *from = (text){0};
    return given;
}

static plugin_list_string_t list_of(const char *const *items, size_t count) {
    plugin_list_string_t list = {malloc(count * sizeof *list.ptr), count};
    if (list.ptr == NULL) abort();
    for (size_t i = 0; i < count; i++) plugin_string_dup(&list.ptr[i], items[i]);
    return list;
}

static void add_number(text *to, unsigned long long number) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    text_add(to, digits + at, sizeof digits - at);
}

// === init ===

static bool refuse(failure *err, const char *why, const char *about, size_t len) {
    text said = {0};
    text_add_str(&said, why);
    text_add(&said, about, len);
    err->message = give(&said);
    return false;
}

bool exports_task_logger_plugin_processor_init(plugin_string_t *config, manifest *ret, failure *err) {
    span rest = {(const char *)config->ptr, config->len}, literal = {0}, value;
    text key = {0}, name = {0}, version = {0}, role = {0}, fail = {0};
    while (json_next(&rest, &literal, &value)) {
        json_text(literal, &key);
        text *known = json_is(literal, "name")      ? &name
                      : json_is(literal, "version") ? &version
                      : json_is(literal, "role")    ? &role
                      : json_is(literal, "fail")    ? &fail
                                                    : NULL;
        if (known == NULL) return refuse(err, "unknown key: ", key.ptr, key.len);
        if (!json_text(value, known)) return refuse(err, "not a text: ", key.ptr, key.len);
        if (known == &fail) return refuse(err, "", fail.ptr, fail.len);
    }
    text_free(&key);
    bool is_standard = role.len == 8 && memcmp(role.ptr, "standard", 8) == 0;
    bool is_redactor = role.ptr == NULL || (role.len == 8 && memcmp(role.ptr, "redactor", 8) == 0);
    if (!is_standard && !is_redactor) return refuse(err, "role is neither redactor nor standard: ", role.ptr, role.len);
    text_free(&role);
    if (name.ptr == NULL) text_add_str(&name, "conformance");
    if (version.ptr == NULL) text_add_str(&version, "1");
    plugin_string_free(config);
    plugin_string_t ready = constant("ready"), init = constant("init");
    task_logger_plugin_host_log(TASK_LOGGER_PLUGIN_HOST_LEVEL_INFO, &ready);
    task_logger_plugin_host_count(&init, 1);
    const char *const every = "*";
    *ret = (manifest){
        .name = give(&name),
        .version = give(&version),
        .role = is_standard ? EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_ROLE_STANDARD
                            : EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_ROLE_REDACTOR,
        .kinds = list_of(&every, 1),
        .files = list_of(FILES, sizeof FILES / sizeof *FILES),
        .codes = list_of(CODES, sizeof CODES / sizeof *CODES),
    };
    return true;
}

// === process ===

static span data_of(const event *event) { return (span){(const char *)event->data.ptr, event->data.len}; }

static bool does(const event *event, const char *what) {
    span action;
    return json_member(data_of(event), "do", &action) && json_is(action, what);
}

static bool is_released(const call *call, size_t from) {
    for (size_t i = from; i < call->events->len; i++) {
        if (does(&call->events->ptr[i], "release")) return true;
    }
    return false;
}

static void replace(verdict *verdict, text *data) {
    verdict->tag = REPLACE;
    verdict->val.replace = give(data);
}

static void show(const call *call, const event *event, verdict *verdict) {
    text out = {0};
    span said;
    text_add_str(&out, "{\"id\":");
    json_quote(&out, (const char *)event->id.ptr, event->id.len);
    text_add_str(&out, ",\"kind\":");
    json_quote(&out, (const char *)event->kind.ptr, event->kind.len);
    text_add_str(&out, ",\"timestamp_ms\":");
    if (event->timestamp_ms < 0) text_add_str(&out, "-");
    add_number(&out, (unsigned long long)(event->timestamp_ms < 0 ? -event->timestamp_ms : event->timestamp_ms));
    text_add_str(&out, ",\"task\":");
    if (call->task == NULL) text_add_str(&out, "null");
    else json_quote(&out, (const char *)call->task->ptr, call->task->len);
    text_add_str(&out, call->flush ? ",\"flush\":true" : ",\"flush\":false");
    if (json_member(data_of(event), "text", &said)) {
        text plain = {0};
        text_add_str(&out, ",\"text\":");
        if (json_text(said, &plain)) json_quote(&out, plain.ptr, plain.len);
        else text_add(&out, said.ptr, said.len);
        text_free(&plain);
    }
    text_add_str(&out, "}");
    replace(verdict, &out);
}

static bool count_up(call *call, verdict *verdict) {
    plugin_string_t before, after;
    unsigned long long count = 0;
    task_logger_plugin_host_get_state(&before);
    bool is_number = before.len == 0 || json_number((span){(const char *)before.ptr, before.len}, STATE_MAX, &count);
    plugin_string_free(&before);
    if (!is_number) {
        text_add_str(&call->said, "the state is no number");
        return false;
    }
    text state = {0}, data = {0};
    add_number(&state, count + 1);
    after = borrow(&state);
    task_logger_plugin_host_set_state(&after);
    text_add_str(&data, "{\"count\":");
    text_add(&data, state.ptr, state.len);
    text_add_str(&data, "}");
    text_free(&state);
    replace(verdict, &data);
    return true;
}

static void annotate(const event *event) {
    text json = {0};
    text_add_str(&json, "{\"last\":");
    json_quote(&json, (const char *)event->id.ptr, event->id.len);
    text_add_str(&json, "}");
    plugin_string_t given = borrow(&json);
    task_logger_plugin_host_annotate(&given);
    text_free(&json);
}

static bool log_at(call *call, span data, plugin_string_t *line) {
    span level;
    for (uint8_t i = 0; json_member(data, "level", &level) && i < sizeof LEVELS / sizeof *LEVELS; i++) {
        if (json_is(level, LEVELS[i])) {
            task_logger_plugin_host_log(i, line);
            return true;
        }
    }
    text_add_str(&call->said, "no such level");
    return false;
}

static bool count_under(call *call, span data, const char *name) {
    span literal;
    unsigned long long n;
    plugin_string_t counter = constant(name);
    if (!json_member(data, "n", &literal) || !json_number(literal, COUNT_MAX, &n)) {
        text_add_str(&call->said, "n is no number");
        return false;
    }
    task_logger_plugin_host_count(&counter, (uint32_t)n);
    return true;
}

/* Writes the data's text to a file: `write` is the host's function. */
static void to_file(void write(plugin_string_t *, plugin_string_t *), const char *file, plugin_string_t *line) {
    plugin_string_t name = constant(file);
    write(&name, line);
}

/* Decides event `i`. False: the call fails. */
static bool decide(call *call, size_t i, verdict *verdict) {
    const event *event = &call->events->ptr[i];
    span data = data_of(event), action, said;
    verdict->tag = PASS;
    if (!json_member(data, "do", &action) || json_is(action, "pass") || json_is(action, "release")) return true;
    text plain = {0};
    if (json_member(data, "text", &said)) json_text(said, &plain);
    plugin_string_t line = borrow(&plain);
    bool goes_on = true;
    if (json_is(action, "replace")) {
        show(call, event, verdict);
    } else if (json_is(action, "drop")) {
        verdict->tag = DROP;
        plugin_string_dup(&verdict->val.drop, "dropped");
    } else if (json_is(action, "quarantine")) {
        verdict->tag = QUARANTINE;
        plugin_string_dup(&verdict->val.quarantine, "refused");
    } else if (json_is(action, "hold")) {
        if (call->flush || is_released(call, i + 1)) {
            text released = {0};
            text_add_str(&released, "{\"released\":true}");
            replace(verdict, &released);
        } else {
            verdict->tag = HOLD;
        }
    } else if (json_is(action, "state")) {
        goes_on = count_up(call, verdict);
    } else if (json_is(action, "append")) {
        to_file(task_logger_plugin_host_append_file, FILES[0], &line);
    } else if (json_is(action, "write")) {
        to_file(task_logger_plugin_host_replace_file, FILES[1], &line);
    } else if (json_is(action, "undeclared")) {
        to_file(task_logger_plugin_host_append_file, "undeclared.txt", &line);
    } else if (json_is(action, "annotate")) {
        annotate(event);
    } else if (json_is(action, "log")) {
        goes_on = log_at(call, data, &line);
    } else if (json_is(action, "count")) {
        goes_on = count_under(call, data, "counted");
    } else if (json_is(action, "count-other")) {
        goes_on = count_under(call, data, "not-in-the-manifest");
    } else if (json_is(action, "trap")) {
        abort();
    } else {
        goes_on = false;
        text_add_str(&call->said, json_is(action, "fail") ? "told to fail: " : "no such action");
        if (json_is(action, "fail")) text_add(&call->said, plain.ptr, plain.len);
    }
    text_free(&plain);
    return goes_on;
}

bool exports_task_logger_plugin_processor_process(plugin_string_t *maybe_task,
                                                  exports_task_logger_plugin_processor_list_event_t *events, bool flush,
                                                  exports_task_logger_plugin_processor_list_verdict_t *ret, failure *err) {
    call call = {.task = maybe_task, .events = events, .flush = flush};
    bool goes_on = true, holds = false;
    *ret = (exports_task_logger_plugin_processor_list_verdict_t){0};
    if (events->len > 0) ret->ptr = calloc(events->len, sizeof *ret->ptr);
    if (events->len > 0 && ret->ptr == NULL) abort();
    while (goes_on && ret->len < events->len) {
        verdict *verdict = &ret->ptr[ret->len];
        if (holds) verdict->tag = HOLD;
        else goes_on = decide(&call, ret->len, verdict);
        holds = holds || verdict->tag == HOLD;
        ret->len++;
    }
    if (!goes_on) {
        exports_task_logger_plugin_processor_list_verdict_free(ret);
        err->message = give(&call.said);
    }
    if (maybe_task != NULL) plugin_string_free(maybe_task);
    exports_task_logger_plugin_processor_list_event_free(events);
    return goes_on;
}
