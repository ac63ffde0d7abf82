#include "codec/term_weigh.h"

#include "codec/term.h"
#include "codec/words.h"

#include <assert.h>
#include <string.h>

#define SLOT_BYTES 8u         /* an element in its list or tuple */
#define LIST_BYTES 56u        /* with the collector's header, as all containers */
#define TUPLE_BYTES 40u
#define DICT_BYTES 64u
#define SET_BYTES 216u        /* eight entries are inline */
#define ENTRY_BYTES 24u        /* a key, its hash, its value */
#define STR_ENTRY_BYTES 16u    /* while all keys are str */
#define SET_ENTRY_BYTES 16u
#define BIG_BYTES 48u
#define SMALL_OBJECT_BYTES 32u /* an int, a float */
#define BYTES_BYTES 48u
#define ASCII_BYTES 48u
#define TEXT_BYTES 64u
#define ATOM_BYTES 32u
#define REFERENCE_BYTES 64u   /* also a pid */
#define PROBE_KEY_BYTES 16u /* a hash, in a table that doubles */
#define PROBE_SLOT_BYTES 4u
#define PASSING_FROM 128u /* what smaller containers need only while they fill is small */

typedef struct {
    uint64_t skip;     /* bytes after the head that belong to the node itself */
    uint64_t children; /* nodes that follow */
    uint64_t memory;
} bp_node_t;

/* Memory of text by its widest character: Python gives all of them that width. */
static uint64_t
text_memory(const uint8_t *p, uint64_t n)
{
    uint8_t top = 0;
    if (bp_is_ascii(p, n)) {
        return ASCII_BYTES + n;
    }
    for (uint64_t i = 0; i < n; i++) {
        top = p[i] > top ? p[i] : top;
    }
    uint64_t narrow = n < PASSING_FROM ? 0 : n; /* until the first wide character */
    return TEXT_BYTES + narrow + n * (top >= 0xf0 ? 4 : 2);
}

/* A dict's table doubles when two thirds of its slots are used. */
static uint64_t
dict_slots(uint64_t n)
{
    uint64_t slots = 8;
    while (slots * 2 / 3 < n) {
        slots *= 2;
    }
    return slots;
}

static uint64_t
dict_table(uint64_t slots, uint64_t entry)
{
    uint64_t index = slots < 256 ? slots : slots < 65536 ? 2 * slots : 4 * slots;
    return 32 + index + slots * 2 / 3 * entry;
}

/*
 * A dict of n keys. The table before the last one is alive while its keys move, but the keys that
 * come after the move, of which at most 256 take no memory, do not exist yet.
 */
static uint64_t
dict_memory(uint64_t n, uint64_t entry)
{
    if (n == 0) {
        return DICT_BYTES;
    }
    uint64_t slots = dict_slots(n);
    uint64_t memory = DICT_BYTES + dict_table(slots, entry);
    if (n < PASSING_FROM) {
        return memory;
    }
    uint64_t before = dict_table(slots / 2, entry);
    uint64_t moved = slots / 2 * 2 / 3;
    uint64_t to_come = n > moved + 256 ? (n - moved - 256) * SMALL_OBJECT_BYTES : 0;
    return memory + (before > to_come ? before - to_come : 0);
}

static uint64_t
set_memory(uint64_t n)
{
    uint64_t slots = 8;
    uint64_t before = 0;
    while (n * 5 >= (slots - 1) * 3) {
        uint64_t fill = ((slots - 1) * 3 + 4) / 5;
        uint64_t least = fill * (fill > 50000 ? 2 : 4);
        before = slots;
        while (slots <= least) {
            slots *= 2;
        }
    }
    return SET_BYTES + (slots > 8 ? slots * SET_ENTRY_BYTES : 0) +
           (n < PASSING_FROM ? 0 : before * SET_ENTRY_BYTES);
}

static uint64_t
probe_memory(uint64_t n)
{
    return n < PASSING_FROM ? 0 : n * PROBE_KEY_BYTES + dict_slots(n) * PROBE_SLOT_BYTES;
}

/* Whether the key that starts at first has a hash that no peer can foresee. */
static int
is_secret(const uint8_t *first, size_t left)
{
    switch (left > 0 ? first[0] : BP_TAG_NIL) {
    case BP_TAG_SMALL_STR:
    case BP_TAG_STR:
    case BP_TAG_BINARY:
    case BP_TAG_SMALL_ATOM_UTF8:
    case BP_TAG_ATOM_UTF8:
    case BP_TAG_NEW_PID:
    case BP_TAG_NEWER_REFERENCE:
        return 1;
    default:
        return 0;
    }
}

static uint64_t
map_memory(uint64_t n, const uint8_t *first, size_t left)
{
    int is_str = left > 0 && (first[0] == BP_TAG_SMALL_STR || first[0] == BP_TAG_STR);
    return dict_memory(n, is_str ? STR_ENTRY_BYTES : ENTRY_BYTES) +
           (is_secret(first, left) ? 0 : probe_memory(n));
}

uint64_t
bp_term_late_memory(uint64_t keys)
{
    return probe_memory(keys) + dict_memory(keys, ENTRY_BYTES) -
           dict_memory(keys, STR_ENTRY_BYTES);
}

/* Bytes after a tag that must be there before the node can be judged. */
static size_t
head_bytes(uint8_t tag)
{
    switch (tag) {
    case BP_TAG_NIL:
    case BP_TAG_NEW_PID:
        return 0;
    case BP_TAG_SMALL_INTEGER:
    case BP_TAG_SMALL_TUPLE:
    case BP_TAG_SMALL_BIG:
    case BP_TAG_SMALL_ATOM:
    case BP_TAG_SMALL_ATOM_UTF8:
    case BP_TAG_SMALL_STR:
        return 1;
    case BP_TAG_ATOM:
    case BP_TAG_ATOM_UTF8:
    case BP_TAG_STRING:
    case BP_TAG_NEWER_REFERENCE:
        return 2;
    case BP_TAG_INTEGER:
    case BP_TAG_LARGE_TUPLE:
    case BP_TAG_LIST:
    case BP_TAG_BINARY:
    case BP_TAG_LARGE_BIG:
    case BP_TAG_MAP:
    case BP_TAG_STR:
    case BP_TAG_SET:
    case BP_TAG_FROZENSET:
        return 4;
    case BP_TAG_NEW_FLOAT:
        return 8;
    default: /* no tag of ours */
        return 0;
    }
}

static uint64_t
head_number(const uint8_t *p, size_t bytes)
{
    switch (bytes) {
    case 1:
        return p[0];
    case 2:
        return bp_get16(p);
    case 4:
        return bp_get32(p);
    default:
        return 0;
    }
}

/* The atoms that are values of Python's own take no memory. */
static uint64_t
atom_memory(const uint8_t *name, uint64_t n)
{
    if ((n == 4 && memcmp(name, "true", 4) == 0) || (n == 5 && memcmp(name, "false", 5) == 0) ||
        (n == 9 && memcmp(name, "undefined", 9) == 0)) {
        return 0;
    }
    return ATOM_BYTES + text_memory(name, n);
}

/* A pid or reference: an atom for the node, then fixed bytes. 0 if they are not there. */
static uint64_t
named_bytes(const uint8_t *atom, size_t left, uint64_t fixed)
{
    size_t head = left > 0 ? head_bytes(atom[0]) : 0;
    if (head == 0 || head > 2 || left < 1 + head) {
        return 0;
    }
    uint64_t whole = 1 + head + head_number(atom + 1, head) + fixed;
    return whole <= left ? whole : 0;
}

static int
named_node(const uint8_t *atom, size_t left, uint64_t fixed, bp_node_t *node)
{
    node->skip = named_bytes(atom, left, fixed);
    node->memory = REFERENCE_BYTES + ASCII_BYTES + node->skip;
    return node->skip == 0 ? BP_E_TERM_SHORT : BP_TERM_OK;
}

static int
text_node(uint8_t tag, uint64_t n, const uint8_t *body, size_t left, bp_node_t *node)
{
    if (n > left) {
        return BP_E_TERM_SHORT;
    }
    node->skip = n;
    if (tag == BP_TAG_SMALL_STR || tag == BP_TAG_STR) {
        node->memory = text_memory(body, n);
    } else {
        node->memory = atom_memory(body, n);
    }
    return BP_TERM_OK;
}

/* Judge the node of which tag and head, with the number n, were read; body follows. */
static int
judge_node(uint8_t tag, uint64_t n, const uint8_t *body, size_t left, bp_node_t *node)
{
    switch (tag) {
    case BP_TAG_SMALL_INTEGER:
        return BP_TERM_OK;
    case BP_TAG_INTEGER:
    case BP_TAG_NEW_FLOAT:
        node->memory = SMALL_OBJECT_BYTES;
        return BP_TERM_OK;
    case BP_TAG_NIL:
        node->memory = LIST_BYTES;
        return BP_TERM_OK;
    case BP_TAG_STRING:
        *node = (bp_node_t){n, 0, LIST_BYTES + n * SLOT_BYTES};
        return BP_TERM_OK;
    case BP_TAG_BINARY:
        *node = (bp_node_t){n, 0, n > 1 ? BYTES_BYTES + n : 0};
        return BP_TERM_OK;
    case BP_TAG_SMALL_BIG:
    case BP_TAG_LARGE_BIG:
        *node = (bp_node_t){n + 1, 0, BIG_BYTES + n + n / 8};
        return BP_TERM_OK;
    case BP_TAG_SMALL_STR:
    case BP_TAG_STR:
    case BP_TAG_ATOM:
    case BP_TAG_SMALL_ATOM:
    case BP_TAG_ATOM_UTF8:
    case BP_TAG_SMALL_ATOM_UTF8:
        return text_node(tag, n, body, left, node);
    case BP_TAG_NEW_PID:
        return named_node(body, left, 12, node);
    case BP_TAG_NEWER_REFERENCE:
        return named_node(body, left, 4 + 4 * n, node);
    case BP_TAG_SMALL_TUPLE:
    case BP_TAG_LARGE_TUPLE:
        *node = (bp_node_t){0, n, n == 0 ? 0 : TUPLE_BYTES + n * SLOT_BYTES};
        return BP_TERM_OK;
    case BP_TAG_LIST: /* its tail, an empty list that is never made, brings LIST_BYTES */
        *node = (bp_node_t){0, n + 1, n * SLOT_BYTES};
        return BP_TERM_OK;
    case BP_TAG_MAP:
        *node = (bp_node_t){0, 2 * n, map_memory(n, body, left)};
        return BP_TERM_OK;
    case BP_TAG_SET:
    case BP_TAG_FROZENSET:
        *node =
            (bp_node_t){0, n, set_memory(n) + (is_secret(body, left) ? 0 : probe_memory(n))};
        return BP_TERM_OK;
    default:
        return BP_E_TERM_TAG;
    }
}

/* Read one node at weight->offset and move past it, its children excepted. */
static int
weigh_node(const uint8_t *data, size_t size, uint64_t *pending, bp_term_weight_t *weight)
{
    size_t left = size - weight->offset;
    if (left == 0) {
        return BP_E_TERM_SHORT;
    }
    const uint8_t *p = data + weight->offset;
    size_t head = head_bytes(p[0]);
    bp_node_t node = {0, 0, 0};
    if (left < 1 + head) {
        return BP_E_TERM_SHORT;
    }
    left -= 1 + head;
    uint64_t n = head_number(p + 1, head);
    int status = judge_node(p[0], n, p + 1 + head, left, &node);
    if (status != BP_TERM_OK) {
        return status;
    }
    if (node.skip > left) {
        return BP_E_TERM_SHORT;
    }
    *pending += node.children;
    if (node.children > 0 && *pending - 1 > left) {
        weight->count = n;
        return BP_E_TERM_COUNT;
    }
    weight->memory += node.memory;
    weight->nodes++;
    weight->offset += 1 + head + (size_t)node.skip;
    return BP_TERM_OK;
}

int
bp_term_weigh(const uint8_t *data, size_t size, bp_term_weight_t *weight)
{
    assert(data != NULL || size == 0);
    assert(weight != NULL);

    *weight = (bp_term_weight_t){0, 0, 0, 0};
    int status = BP_TERM_OK;
    for (uint64_t pending = 1; pending > 0 && status == BP_TERM_OK; pending--) {
        status = weigh_node(data, size, &pending, weight);
    }
    return status;
}
