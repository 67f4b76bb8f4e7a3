/* Replaces every occurrence of the configured words in all strings of an event's data by [REDACTED].
 *
 * Configuration, from [config] in my-plugin.toml: words = ["...", ...], as they are written by people, without escapes. */
#include <stdlib.h>
#include <string.h>

#include "bindings/plugin.h"
#include "json.h"

#define REDACTED "[REDACTED]"
#define COUNTER "word"

typedef exports_task_logger_plugin_processor_manifest_t manifest;
typedef exports_task_logger_plugin_processor_event_t event;
typedef exports_task_logger_plugin_processor_verdict_t verdict;
typedef exports_task_logger_plugin_processor_failure_t failure;

/* Longest first, so that of two words that begin at the same place the longer one is taken. */
static text *words;
static size_t word_count;
/* Whether some word begins with a byte: most places of a text are settled by this. */
static bool begins[256];

/* The host frees what it is given, so constants are copied. */
static plugin_list_string_t list_of(const char *only) {
    plugin_list_string_t list = {0};
    if (only == NULL) return list;
    list.ptr = malloc(sizeof *list.ptr);
    if (list.ptr == NULL) abort();
    list.len = 1;
    plugin_string_dup(list.ptr, only);
    return list;
}

static bool refuse(failure *err, const char *why) {
    plugin_string_dup(&err->message, why);
    return false;
}

static int longer_first(const void *a, const void *b) {
    const text *one = a, *other = b;
    return (one->len < other->len) - (one->len > other->len);
}

static bool read_words(span list, failure *err) {
    span item;
    if (list.len == 0 || list.ptr[0] != '[') return refuse(err, "words must be a list of texts");
    while (json_next(&list, NULL, &item)) {
        text word = {0};
        if (!json_text(item, &word) || word.len == 0) return refuse(err, "words must be texts that are not empty");
        words = realloc(words, (word_count + 1) * sizeof *words);
        if (words == NULL) abort();
        words[word_count++] = word;
        begins[(unsigned char)word.ptr[0]] = true;
    }
    if (word_count > 1) qsort(words, word_count, sizeof *words, longer_first);
    return true;
}

bool exports_task_logger_plugin_processor_init(plugin_string_t *config, manifest *ret, failure *err) {
    span rest = {(const char *)config->ptr, config->len}, key = {0}, value;
    while (json_next(&rest, &key, &value)) {
        if (!json_is(key, "words")) {
            /* A misspelt key must not mean that nothing is redacted. */
            text why = {0};
            text_add_str(&why, "unknown key in [config]: ");
            text_add(&why, key.ptr, key.len);
            plugin_string_dup_n(&err->message, why.ptr, why.len);
            return false;
        }
        if (!read_words(value, err)) return false;
    }
    if (word_count == 0) return refuse(err, "words is missing in [config]: nothing would be redacted");
    plugin_string_free(config);
    plugin_string_dup(&ret->name, "my-plugin");
    plugin_string_dup(&ret->version, "0.1.0");
    ret->role = EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_ROLE_REDACTOR;
    ret->kinds = list_of("*");
    ret->files = list_of(NULL);
    ret->codes = list_of(COUNTER);
    return true;
}

/* The word that stands at the begin of this text, if one does. */
static const text *word_at(const char *at, size_t left) {
    if (left == 0 || !begins[(unsigned char)*at]) return NULL;
    for (size_t i = 0; i < word_count; i++) {
        if (words[i].len <= left && memcmp(at, words[i].ptr, words[i].len) == 0) return &words[i];
    }
    return NULL;
}

/* Adds a string literal to `out`, redacted. One without a word stays as it is written, byte for byte. */
static unsigned redact(span literal, text *plain, text *clean, text *out) {
    unsigned found = 0;
    size_t from = 0;
    clean->len = 0;
    if (!json_text(literal, plain)) plain->len = 0;
    for (size_t i = 0; i < plain->len;) {
        const text *word = word_at(plain->ptr + i, plain->len - i);
        if (word == NULL) {
            i++;
            continue;
        }
        text_add(clean, plain->ptr + from, i - from);
        text_add_str(clean, REDACTED);
        from = i += word->len;
        found++;
    }
    if (found > 0) {
        text_add(clean, plain->ptr + from, plain->len - from);
        json_quote(out, clean->ptr, clean->len);
    } else {
        text_add(out, literal.ptr, literal.len);
    }
    return found;
}

/* All strings, names of members too; what is between them is copied. */
static unsigned redact_all(span data, text *out) {
    const char *at = data.ptr, *end = data.ptr + data.len;
    text plain = {0}, clean = {0};
    unsigned found = 0;
    while (at < end) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        if (quote == NULL) quote = end;
        text_add(out, at, (size_t)(quote - at));
        if (quote == end) break;
        at = json_string_end(quote, end);
        found += redact((span){quote, (size_t)(at - quote)}, &plain, &clean, out);
    }
    text_free(&plain);
    text_free(&clean);
    return found;
}

bool exports_task_logger_plugin_processor_process(plugin_string_t *maybe_task,
                                                  exports_task_logger_plugin_processor_list_event_t *events, bool flush,
                                                  exports_task_logger_plugin_processor_list_verdict_t *ret, failure *err) {
    (void)flush; /* Only a plugin that holds needs to know. */
    (void)err;   /* Every event can be decided. */
    unsigned found = 0;
    ret->len = events->len;
    ret->ptr = calloc(events->len + 1, sizeof *ret->ptr);
    if (ret->ptr == NULL) abort();
    for (size_t i = 0; i < events->len; i++) {
        const plugin_string_t data = events->ptr[i].data;
        text out = {0};
        unsigned here = redact_all((span){(const char *)data.ptr, data.len}, &out);
        if (here > 0) {
            ret->ptr[i].tag = EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_REPLACE;
            ret->ptr[i].val.replace = (plugin_string_t){(uint8_t *)out.ptr, out.len};
            found += here;
        } else {
            ret->ptr[i].tag = EXPORTS_TASK_LOGGER_PLUGIN_PROCESSOR_VERDICT_PASS;
            text_free(&out);
        }
    }
    if (found > 0) {
        plugin_string_t name;
        plugin_string_set(&name, COUNTER);
        task_logger_plugin_host_count(&name, found);
    }
    /* What was handed over is ours to free; what we return is freed after it was read. */
    if (maybe_task != NULL) plugin_string_free(maybe_task);
    exports_task_logger_plugin_processor_list_event_free(events);
    return true;
}
