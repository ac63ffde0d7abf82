/*
 * Terms: the tags of the Erlang External Term Format that we speak, and what can be wrong.
 *
 * Source: Erlang/OTP, ERTS User's Guide, "External Term Format". Tags from
 * BP_TAG_PRIVATE_MIN on are ours; see docs/reference/wire.md.
 */
#ifndef BP_CODEC_TERM_H
#define BP_CODEC_TERM_H

enum {
    BP_TAG_NEW_FLOAT = 70,
    BP_TAG_COMPRESSED = 80,
    BP_TAG_NEW_PID = 88,
    BP_TAG_NEWER_REFERENCE = 90,
    BP_TAG_SMALL_INTEGER = 97,
    BP_TAG_INTEGER = 98,
    BP_TAG_ATOM = 100,
    BP_TAG_SMALL_TUPLE = 104,
    BP_TAG_LARGE_TUPLE = 105,
    BP_TAG_NIL = 106,
    BP_TAG_STRING = 107,
    BP_TAG_LIST = 108,
    BP_TAG_BINARY = 109,
    BP_TAG_SMALL_BIG = 110,
    BP_TAG_LARGE_BIG = 111,
    BP_TAG_SMALL_ATOM = 115,
    BP_TAG_MAP = 116,
    BP_TAG_ATOM_UTF8 = 118,
    BP_TAG_SMALL_ATOM_UTF8 = 119,
    BP_TERM_VERSION = 131,
    BP_TAG_PRIVATE_MIN = 224,
    BP_TAG_SMALL_STR = 224, /* u8 length, UTF-8 */
    BP_TAG_STR = 225,       /* u32 length, UTF-8 */
    BP_TAG_SET = 226,       /* u32 count, members */
    BP_TAG_FROZENSET = 227  /* u32 count, members */
};

enum {
    BP_TERM_OK = 0,
    BP_E_TERM_VERSION = -64,   /* the first byte is not BP_TERM_VERSION */
    BP_E_TERM_TAG = -65,       /* a tag outside the closed set */
    BP_E_TERM_SHORT = -66,     /* the bytes end inside the term */
    BP_E_TERM_TRAILING = -67,  /* bytes after the term */
    BP_E_TERM_COUNT = -68,     /* more elements announced than bytes are left */
    BP_E_TERM_DEPTH = -69,     /* containers nested too deeply */
    BP_E_TERM_BYTES = -70,     /* the encoded term is too long */
    BP_E_TERM_MEMORY = -71,    /* the value would take too much memory */
    BP_E_TERM_NODES = -72,     /* too many values in one term */
    BP_E_TERM_INT = -73,       /* an integer with too many bits */
    BP_E_TERM_SIGN = -74,      /* a sign byte other than 0 and 1 */
    BP_E_TERM_UTF8 = -75,      /* text that is not UTF-8, or not encodable as such */
    BP_E_TERM_ATOM = -76,      /* an atom's name is too long */
    BP_E_TERM_NODE = -77,      /* no node name */
    BP_E_TERM_WORDS = -78,     /* a reference with no or too many words */
    BP_E_TERM_TAIL = -79,      /* an improper list */
    BP_E_TERM_UNHASHABLE = -80, /* a list, map or set as (part of) a key */
    BP_E_TERM_NAN = -81,       /* a NaN as (part of) a key */
    BP_E_TERM_DUPLICATE = -82, /* two keys that are equal */
    BP_E_TERM_COLLISION = -83, /* keys chosen to collide in a hash table */
    BP_E_TERM_TYPE = -84,      /* a type outside the closed set */
    BP_E_TERM_KEY = -85,       /* no key term */
    BP_E_TERM_ALLOC = -86      /* malloc failed */
};

#endif
