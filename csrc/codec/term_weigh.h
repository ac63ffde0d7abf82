/*
 * What a term would cost as a Python value, judged from its bytes alone.
 *
 * A two-byte empty map becomes 64 bytes of memory, a one-byte empty list 56, so a long term can
 * grow many times over. Weighing it first refuses such a term before anything is allocated. The
 * weight follows the object sizes of 64-bit CPython 3.12 to 3.14, rounded to its allocator's 16
 * bytes, with the tables that exist while a dict or set grows, and the probes of untrusted keys.
 * What a container's first key is, all of its keys are taken to be.
 */
#ifndef BP_CODEC_TERM_WEIGH_H
#define BP_CODEC_TERM_WEIGH_H

#include <stddef.h>
#include <stdint.h>

/* No byte of a valid term takes more memory: that of an empty list and its slot in another. */
#define BP_TERM_DENSITY_MAX 64u

typedef struct {
    uint64_t memory; /* bytes that the decoded value and its making take */
    uint64_t nodes;  /* values in it, containers included */
    size_t offset;   /* where reading stopped: at the wrong byte, or past the term */
    uint64_t count;  /* with BP_E_TERM_COUNT, the count announced there */
} bp_term_weight_t;

/*
 * bp_term_weigh - weigh the term without its version byte that starts at data.
 *
 * Checks the outline only: tags, lengths and counts. What bytes mean (UTF-8, proper lists,
 * depth, keys) is left to the decoder. Time is linear in the number of nodes plus the bytes of
 * text; nothing is allocated, and counts are believed only up to the bytes that are left.
 *
 * Requires  weight non-NULL; data holds size bytes.
 * Ensures   BP_TERM_OK: *weight is complete and weight->offset <= size.
 *           otherwise: weight->offset is that of the node in question.
 * Returns   BP_TERM_OK, BP_E_TERM_SHORT, BP_E_TERM_TAG or BP_E_TERM_COUNT.
 * Owns      nothing. Safe without the GIL.
 */
int bp_term_weigh(const uint8_t *data, size_t size, bp_term_weight_t *weight);

/*
 * bp_term_late_memory - what a map or set of that many keys weighs more than bp_term_weigh says
 * when its first key is one of secret hash and a later one is not.
 */
uint64_t bp_term_late_memory(uint64_t keys);

#endif
