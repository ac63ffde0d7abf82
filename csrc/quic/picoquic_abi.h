/*
 * The part of picoquic's binary interface that the engine uses, declared here
 * because the shared object we bind to comes without headers. Field offsets are
 * asserted against picoquic's own headers by csrc/tests/test_abi.c.
 */
#ifndef BP_QUIC_PICOQUIC_ABI_H
#define BP_QUIC_PICOQUIC_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

typedef struct bp_pq_quic bp_pq_quic_t;
typedef struct bp_pq_cnx bp_pq_cnx_t;
typedef struct bp_pq_tls bp_pq_tls_t;

typedef struct {
    uint8_t id[20];
    uint8_t id_len;
} bp_pq_cid_t;

typedef struct {
    uint8_t *base;
    size_t len;
} bp_pq_iovec_t;

typedef struct {
    uint64_t receive_rate;
    uint64_t pacing_rate;
    uint64_t cwin;
    uint64_t rtt;
    uint64_t rtt_sample;
    uint64_t rtt_variant;
    uint64_t rtt_min;
    uint64_t rtt_max;
    uint64_t sent;
    uint64_t lost;
    uint64_t timer_losses;
    uint64_t spurious_losses;
    uint64_t max_spurious_rtt;
    uint64_t max_reorder_delay;
    uint64_t max_reorder_gap;
    uint64_t bytes_in_transit;
    uint64_t bytes_sent;
    uint64_t bytes_received;
} bp_pq_quality_t;

/* Transport parameters, up to the last field we read. */
typedef struct {
    uint64_t windows[7];
    uint32_t packet_size_max;
    uint32_t ack_delay_max;
    uint32_t active_cid_limit;
    uint8_t ack_delay_exponent;
    unsigned int migration_disabled;
    uint8_t skipped[148];
    uint64_t path_id_max; /* 0: multipath not offered */
} bp_pq_tp_t;

/* picotls: how a peer's certificate chain and its CertificateVerify are checked. */
typedef int (*bp_pq_verify_sign_fn)(void *context, uint16_t algorithm, bp_pq_iovec_t data,
                                    bp_pq_iovec_t signature);

typedef struct bp_pq_verify bp_pq_verify_t;
struct bp_pq_verify {
    int (*cb)(bp_pq_verify_t *self, bp_pq_tls_t *tls, const char *server_name,
              bp_pq_verify_sign_fn *verify_sign, void **verify_context,
              bp_pq_iovec_t *certificates, size_t count);
    const uint16_t *algorithms;
};

typedef struct bp_pq_override bp_pq_override_t;
struct bp_pq_override {
    int (*cb)(bp_pq_override_t *self, bp_pq_tls_t *tls, int result, int openssl_result,
              void *certificate, void *chain);
};

typedef struct {
    bp_pq_verify_t super;
    void *store;
    bp_pq_override_t *override;
} bp_pq_openssl_verify_t;

typedef int (*bp_pq_callback_fn)(bp_pq_cnx_t *cnx, uint64_t stream_id, uint8_t *bytes,
                                 size_t length, int event, void *context, void *stream_context);
typedef void (*bp_pq_cid_fn)(bp_pq_quic_t *quic, bp_pq_cid_t local, bp_pq_cid_t remote,
                             void *context, bp_pq_cid_t *chosen);

#define BP_PQ_ALERT_BAD_CERTIFICATE 42
#define BP_PQ_TLS_NO_MEMORY 0x201

#define BP_PQ_STREAM_DATA 0
#define BP_PQ_STREAM_FIN 1
#define BP_PQ_STREAM_RESET 2
#define BP_PQ_STOP_SENDING 3
#define BP_PQ_STATELESS_RESET 4
#define BP_PQ_CLOSE 5
#define BP_PQ_APPLICATION_CLOSE 6
#define BP_PQ_PREPARE_TO_SEND 8
#define BP_PQ_ALMOST_READY 9
#define BP_PQ_READY 10
#define BP_PQ_PATH_AVAILABLE 20
#define BP_PQ_PATH_DELETED 22
#define BP_PQ_STREAM_RELEASED 27

#define BP_PQ_STATE_READY 14

/* TLS named groups (IANA). */
#define BP_PQ_GROUP_X25519 0x001d
#define BP_PQ_GROUP_X25519MLKEM768 0x11ec

#define BP_PQ_TP_BIDI_LOCAL 5
#define BP_PQ_TP_BIDI_REMOTE 6
#define BP_PQ_TP_UNI 7
#define BP_PQ_TP_STREAMS_BIDI 8
#define BP_PQ_TP_STREAMS_UNI 9
#define BP_PQ_TP_MIGRATION_DISABLED 0x0c
#define BP_PQ_TP_PATH_ID_MAX 0x3e
#define BP_PQ_TP_RESET_STREAM_AT UINT64_C(0x17f7586d2cb571)

#define BP_PQ_ERROR_IDLE_TIMEOUT 0x433
#define BP_PQ_ERROR_REPEAT_TIMEOUT 0x434
#define BP_PQ_ERROR_HANDSHAKE_TIMEOUT 0x435
#define BP_PQ_ERROR_MEMORY 0x405
#define BP_PQ_ERROR_PATH_DUPLICATE 0x43f
#define BP_PQ_ERROR_PATH_ID_BLOCKED 0x440
#define BP_PQ_ERROR_PATH_CID_BLOCKED 0x441
#define BP_PQ_ERROR_PATH_LIMIT 0x444

#endif
