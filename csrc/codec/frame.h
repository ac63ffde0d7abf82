/*
 * Frames: u32 length of what follows, u8 kind, u8 flags, body; big endian.
 *
 * A splitter turns one stream's chunks, cut anywhere, back into frames. A frame that
 * lies whole in its chunk is lent in place. Only a frame torn across chunks is gathered
 * in the splitter's carry buffer, which grows with the bytes received (at most twice as
 * many, at least BP_FRAME_CARRY_MIN) and never with the length a peer announces.
 *
 * Errors have their own numbers so that this header and the engine's can meet in one
 * translation unit.
 */
#ifndef BP_CODEC_FRAME_H
#define BP_CODEC_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define BP_FRAME_LENGTH_BYTES 4u
#define BP_FRAME_HEADER_BYTES 6u

/* The length counts kind and flags, so a smaller one is malformed. */
#define BP_FRAME_LENGTH_MIN 2u

/* No splitter may be told to accept more than this. */
#define BP_FRAME_LENGTH_TOP 0x40000000u

#define BP_FRAME_CARRY_MIN 256u

/* A carry buffer that grew beyond this is released with the frame it held. */
#define BP_FRAME_CARRY_KEEP 65536u

#define BP_FRAME_NONE 0 /* the chunk is used up */
#define BP_FRAME_READY 1
#define BP_E_FRAME_SHORT (-32)  /* the announced length has no room for kind and flags */
#define BP_E_FRAME_LIMIT (-33)  /* the announced length exceeds length_max */
#define BP_E_FRAME_MEMORY (-34) /* malloc failed */

typedef struct {
    const uint8_t *body; /* lent; see bp_splitter_next */
    size_t body_bytes;
    uint8_t kind;
    uint8_t flags;
} bp_frame_t;

typedef struct {
    uint8_t *carry;      /* the torn frame, from its first byte; owned */
    size_t carried;      /* bytes of it received so far */
    size_t capacity;     /* bytes allocated at carry */
    uint32_t length_max; /* greatest length accepted */
    uint32_t announced;  /* the length that was refused */
    int status;          /* BP_FRAME_NONE, or the error that ended this splitter */
    int lent;            /* the carried frame is complete and in the caller's hands */
} bp_splitter_t;

/*
 * bp_frame_write_header - write the six bytes before a body.
 *
 * Requires  out has room for BP_FRAME_HEADER_BYTES;
 *           body_bytes <= BP_FRAME_LENGTH_TOP - BP_FRAME_LENGTH_MIN.
 * Owns      nothing; allocates nothing. Safe without the GIL.
 */
static inline void
bp_frame_write_header(uint8_t *out, uint8_t kind, uint8_t flags, size_t body_bytes)
{
    uint32_t length = (uint32_t)(body_bytes + BP_FRAME_LENGTH_MIN);
    out[0] = (uint8_t)(length >> 24);
    out[1] = (uint8_t)(length >> 16);
    out[2] = (uint8_t)(length >> 8);
    out[3] = (uint8_t)length;
    out[4] = kind;
    out[5] = flags;
}

/*
 * bp_frame_read_length - read and judge the four bytes that start a frame.
 *
 * Requires  bytes holds BP_FRAME_LENGTH_BYTES.
 * Ensures   *length is the announced length, whatever is returned.
 * Returns   BP_FRAME_READY, BP_E_FRAME_SHORT or BP_E_FRAME_LIMIT.
 * Owns      nothing; allocates nothing. Safe without the GIL.
 */
int bp_frame_read_length(const uint8_t *bytes, uint32_t length_max, uint32_t *length);

/*
 * bp_splitter_init - make *s an empty splitter; release with bp_splitter_clear.
 *
 * Requires  s non-NULL; BP_FRAME_LENGTH_MIN <= length_max <= BP_FRAME_LENGTH_TOP.
 * Owns      nothing yet: the carry buffer is allocated by the first torn frame.
 */
void bp_splitter_init(bp_splitter_t *s, uint32_t length_max);

/*
 * bp_splitter_next - take the next frame of a chunk.
 *
 * Call until it returns anything but BP_FRAME_READY; then pass the next chunk.
 *
 * Requires  s initialised; *pos <= end; the chunk stays alive and unchanged.
 * Ensures   BP_FRAME_READY: *frame is set and *pos is past it. frame->body points into
 *           the chunk, or into the carry buffer until the next call on s.
 *           BP_FRAME_NONE: *pos == end; the start of a torn frame, if any, is carried.
 *           error: *frame is untouched and s refuses with the same error from now on;
 *           the wrong length is in s->announced.
 * Returns   BP_FRAME_READY, BP_FRAME_NONE, BP_E_FRAME_SHORT, BP_E_FRAME_LIMIT or
 *           BP_E_FRAME_MEMORY.
 * Owns      the carry buffer, at most BP_FRAME_LENGTH_BYTES + length_max bytes. Safe
 *           without the GIL; one thread at a time.
 */
int bp_splitter_next(bp_splitter_t *s, const uint8_t **pos, const uint8_t *end,
                     bp_frame_t *frame);

/*
 * bp_splitter_refuse - end the splitter for a reason of the caller's.
 *
 * Requires  error < 0.
 * Ensures   bp_splitter_next returns error from now on, or an earlier error; the
 *           carry buffer is released.
 */
void bp_splitter_refuse(bp_splitter_t *s, int error);

/*
 * bp_splitter_clear - release what s owns. Idempotent; s may be initialised again.
 */
void bp_splitter_clear(bp_splitter_t *s);

#endif
