/* See json.h. */
#include "json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void text_add(text *to, const char *bytes, size_t len) {
    if (to->ptr == NULL || len > to->room - to->len) {
        size_t room = to->room < 64 ? 64 : to->room;
        while (room - to->len < len) {
            if (room > SIZE_MAX / 2) abort();
            room *= 2;
        }
        to->ptr = realloc(to->ptr, room);
        if (to->ptr == NULL) abort();
        to->room = room;
    }
    if (len > 0) memcpy(to->ptr + to->len, bytes, len);
    to->len += len;
}

void text_add_str(text *to, const char *str) { text_add(to, str, strlen(str)); }

void text_free(text *to) {
    free(to->ptr);
    *to = (text){0};
}

static const char *skip_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

const char *json_string_end(const char *at, const char *end) {
    for (at++; at < end; at++) {
        if (*at == '"') return at + 1;
        if (*at == '\\' && ++at == end) break;
    }
    return end;
}

/* The end of the value that begins at `at`. Counts brackets instead of calling itself: no text is too deep. */
static const char *value_end(const char *at, const char *end) {
    size_t depth = 0;
    while (at < end) {
        switch (*at) {
            case '"':
                at = json_string_end(at, end);
                if (depth == 0) return at;
                continue;
            case '{':
            case '[':
                depth++;
                break;
            case '}':
            case ']':
                if (depth == 0) return at;
                if (--depth == 0) return at + 1;
                break;
            case ',':
            case ' ':
            case '\t':
            case '\n':
            case '\r':
                if (depth == 0) return at;
                break;
            default:
                break;
        }
        at++;
    }
    return end;
}

bool json_next(span *rest, span *key, span *value) {
    const char *end = rest->ptr + rest->len;
    const char *at = skip_space(rest->ptr, end);
    if (at < end && (*at == '{' || *at == '[' || *at == ',')) at = skip_space(at + 1, end);
    if (at == end || *at == '}' || *at == ']') return false;
    const char *first_end = value_end(at, end);
    const char *colon = skip_space(first_end, end);
    if (first_end == at) return false;
    if (*at == '"' && colon < end && *colon == ':') {
        if (key != NULL) *key = (span){at, (size_t)(first_end - at)};
        at = skip_space(colon + 1, end);
        first_end = value_end(at, end);
    }
    *value = (span){at, (size_t)(first_end - at)};
    *rest = (span){first_end, (size_t)(end - first_end)};
    return true;
}

bool json_member(span object, const char *name, span *value) {
    const char *at = skip_space(object.ptr, object.ptr + object.len);
    if (at == object.ptr + object.len || *at != '{') return false;
    span key = {0}, found;
    bool is_there = false;
    while (json_next(&object, &key, &found)) {
        if (json_is(key, name)) {
            *value = found;
            is_there = true;
        }
    }
    return is_there;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The four digits after \u; false if they are not there. */
static bool read_unit(const char *at, const char *end, uint32_t *unit) {
    if (end - at < 4) return false;
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0) return false;
        *unit = *unit * 16 + (uint32_t)digit;
    }
    return true;
}

static void add_utf8(text *to, uint32_t c) {
    char bytes[4];
    size_t len;
    if (c < 0x80) {
        bytes[0] = (char)c;
        len = 1;
    } else if (c < 0x800) {
        bytes[0] = (char)(0xc0 | c >> 6);
        bytes[1] = (char)(0x80 | (c & 0x3f));
        len = 2;
    } else if (c < 0x10000) {
        bytes[0] = (char)(0xe0 | c >> 12);
        bytes[1] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (c & 0x3f));
        len = 3;
    } else {
        bytes[0] = (char)(0xf0 | c >> 18);
        bytes[1] = (char)(0x80 | (c >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[3] = (char)(0x80 | (c & 0x3f));
        len = 4;
    }
    text_add(to, bytes, len);
}

/* Reads the escape after the backslash at `at - 1`; NULL if there is no such escape. */
static const char *add_escape(text *to, const char *at, const char *end) {
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    const char *found = *at == '\0' ? NULL : strchr(names, *at);
    if (found != NULL) {
        text_add(to, &means[found - names], 1);
        return at + 1;
    }
    uint32_t unit, low;
    if (*at != 'u' || !read_unit(at + 1, end, &unit)) return NULL;
    at += 5;
    if (unit >= 0xd800 && unit < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u' &&
        read_unit(at + 2, end, &low) && low >= 0xdc00 && low < 0xe000) {
        add_utf8(to, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
        return at + 6;
    }
    add_utf8(to, unit >= 0xd800 && unit < 0xe000 ? 0xfffd : unit);
    return at;
}

bool json_text(span literal, text *to) {
    to->len = 0;
    if (literal.len < 2 || literal.ptr[0] != '"' || literal.ptr[literal.len - 1] != '"') return false;
    const char *at = literal.ptr + 1, *end = literal.ptr + literal.len - 1;
    text_add(to, "", 0);
    while (at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        if (slash == NULL) slash = end;
        text_add(to, at, (size_t)(slash - at));
        if (slash == end) return true;
        if (slash + 1 == end) return false;
        at = add_escape(to, slash + 1, end);
        if (at == NULL) return false;
    }
    return true;
}

bool json_number(span literal, unsigned long long max, unsigned long long *number) {
    *number = 0;
    for (size_t i = 0; i < literal.len; i++) {
        if (literal.ptr[i] < '0' || literal.ptr[i] > '9') return false;
        unsigned long long digit = (unsigned long long)(literal.ptr[i] - '0');
        if (*number > (max - digit) / 10) return false;
        *number = *number * 10 + digit;
    }
    return literal.len > 0;
}

bool json_is(span literal, const char *str) {
    size_t len = strlen(str);
    if (literal.len == len + 2 && literal.ptr[0] == '"' && memchr(str, '\\', len) == NULL &&
        memcmp(literal.ptr + 1, str, len) == 0) {
        return true;
    }
    if (literal.len < 2 || memchr(literal.ptr, '\\', literal.len) == NULL) return false;
    text plain = {0};
    bool is = json_text(literal, &plain) && plain.len == len && memcmp(plain.ptr, str, len) == 0;
    text_free(&plain);
    return is;
}

void json_quote(text *to, const char *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    text_add(to, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        text_add(to, bytes + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\') {
            char escape[] = {'\\', (char)c};
            text_add(to, escape, sizeof escape);
        } else {
            char escape[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
            text_add(to, escape, sizeof escape);
        }
    }
    text_add(to, bytes + from, len - from);
    text_add(to, "\"", 1);
}
