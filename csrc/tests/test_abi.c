/*
 * picoquic_abi.h against picoquic's own headers: every size, offset and constant we
 * declare ourselves, at compile time. Running it only says that it compiled.
 */
#include <picoquic.h>
#include <picotls.h>
#include <picotls/openssl.h>
#include <stdio.h>

#include "quic/picoquic_abi.h"

#define SAME_SIZE(ours, theirs) _Static_assert(sizeof(ours) == sizeof(theirs), #theirs)
#define SAME_PLACE(ours, field, theirs, their_field)                                           \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, their_field), #their_field);      \
    _Static_assert(sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->their_field),           \
                   #their_field)
#define SAME_VALUE(ours, theirs) _Static_assert((ours) == (theirs), #theirs)

SAME_SIZE(bp_pq_cid_t, picoquic_connection_id_t);
SAME_PLACE(bp_pq_cid_t, id, picoquic_connection_id_t, id);
SAME_PLACE(bp_pq_cid_t, id_len, picoquic_connection_id_t, id_len);

SAME_SIZE(bp_pq_iovec_t, ptls_iovec_t);
SAME_PLACE(bp_pq_iovec_t, base, ptls_iovec_t, base);
SAME_PLACE(bp_pq_iovec_t, len, ptls_iovec_t, len);

SAME_SIZE(bp_pq_quality_t, picoquic_path_quality_t);
SAME_PLACE(bp_pq_quality_t, receive_rate, picoquic_path_quality_t, receive_rate_estimate);
SAME_PLACE(bp_pq_quality_t, pacing_rate, picoquic_path_quality_t, pacing_rate);
SAME_PLACE(bp_pq_quality_t, cwin, picoquic_path_quality_t, cwin);
SAME_PLACE(bp_pq_quality_t, rtt, picoquic_path_quality_t, rtt);
SAME_PLACE(bp_pq_quality_t, rtt_sample, picoquic_path_quality_t, rtt_sample);
SAME_PLACE(bp_pq_quality_t, rtt_variant, picoquic_path_quality_t, rtt_variant);
SAME_PLACE(bp_pq_quality_t, rtt_min, picoquic_path_quality_t, rtt_min);
SAME_PLACE(bp_pq_quality_t, rtt_max, picoquic_path_quality_t, rtt_max);
SAME_PLACE(bp_pq_quality_t, sent, picoquic_path_quality_t, sent);
SAME_PLACE(bp_pq_quality_t, lost, picoquic_path_quality_t, lost);
SAME_PLACE(bp_pq_quality_t, timer_losses, picoquic_path_quality_t, timer_losses);
SAME_PLACE(bp_pq_quality_t, spurious_losses, picoquic_path_quality_t, spurious_losses);
SAME_PLACE(bp_pq_quality_t, max_spurious_rtt, picoquic_path_quality_t, max_spurious_rtt);
SAME_PLACE(bp_pq_quality_t, max_reorder_delay, picoquic_path_quality_t, max_reorder_delay);
SAME_PLACE(bp_pq_quality_t, max_reorder_gap, picoquic_path_quality_t, max_reorder_gap);
SAME_PLACE(bp_pq_quality_t, bytes_in_transit, picoquic_path_quality_t, bytes_in_transit);
SAME_PLACE(bp_pq_quality_t, bytes_sent, picoquic_path_quality_t, bytes_sent);
SAME_PLACE(bp_pq_quality_t, bytes_received, picoquic_path_quality_t, bytes_received);

SAME_PLACE(bp_pq_tp_t, packet_size_max, picoquic_tp_t, max_packet_size);
SAME_PLACE(bp_pq_tp_t, ack_delay_max, picoquic_tp_t, max_ack_delay);
SAME_PLACE(bp_pq_tp_t, active_cid_limit, picoquic_tp_t, active_connection_id_limit);
SAME_PLACE(bp_pq_tp_t, ack_delay_exponent, picoquic_tp_t, ack_delay_exponent);
SAME_PLACE(bp_pq_tp_t, migration_disabled, picoquic_tp_t, migration_disabled);
SAME_PLACE(bp_pq_tp_t, path_id_max, picoquic_tp_t, initial_max_path_id);
_Static_assert(sizeof(bp_pq_tp_t) <= sizeof(picoquic_tp_t), "we read past the end");

SAME_SIZE(bp_pq_verify_t, ptls_verify_certificate_t);
SAME_PLACE(bp_pq_verify_t, cb, ptls_verify_certificate_t, cb);
SAME_PLACE(bp_pq_verify_t, algorithms, ptls_verify_certificate_t, algos);

SAME_SIZE(bp_pq_override_t, ptls_openssl_override_verify_certificate_t);
SAME_PLACE(bp_pq_override_t, cb, ptls_openssl_override_verify_certificate_t, cb);

SAME_SIZE(bp_pq_openssl_verify_t, ptls_openssl_verify_certificate_t);
SAME_PLACE(bp_pq_openssl_verify_t, super, ptls_openssl_verify_certificate_t, super);
SAME_PLACE(bp_pq_openssl_verify_t, store, ptls_openssl_verify_certificate_t, cert_store);
SAME_PLACE(bp_pq_openssl_verify_t, override, ptls_openssl_verify_certificate_t,
           override_callback);

SAME_VALUE(BP_PQ_ALERT_BAD_CERTIFICATE, PTLS_ALERT_BAD_CERTIFICATE);
SAME_VALUE(BP_PQ_TLS_NO_MEMORY, PTLS_ERROR_NO_MEMORY);

SAME_VALUE(BP_PQ_STREAM_DATA, picoquic_callback_stream_data);
SAME_VALUE(BP_PQ_STREAM_FIN, picoquic_callback_stream_fin);
SAME_VALUE(BP_PQ_STREAM_RESET, picoquic_callback_stream_reset);
SAME_VALUE(BP_PQ_STOP_SENDING, picoquic_callback_stop_sending);
SAME_VALUE(BP_PQ_STATELESS_RESET, picoquic_callback_stateless_reset);
SAME_VALUE(BP_PQ_CLOSE, picoquic_callback_close);
SAME_VALUE(BP_PQ_APPLICATION_CLOSE, picoquic_callback_application_close);
SAME_VALUE(BP_PQ_PREPARE_TO_SEND, picoquic_callback_prepare_to_send);
SAME_VALUE(BP_PQ_ALMOST_READY, picoquic_callback_almost_ready);
SAME_VALUE(BP_PQ_READY, picoquic_callback_ready);
SAME_VALUE(BP_PQ_PATH_AVAILABLE, picoquic_callback_path_available);
SAME_VALUE(BP_PQ_PATH_DELETED, picoquic_callback_path_deleted);
SAME_VALUE(BP_PQ_STREAM_RELEASED, picoquic_callback_stream_released);

SAME_VALUE(BP_PQ_STATE_READY, picoquic_state_ready);

SAME_VALUE(BP_PQ_TP_BIDI_LOCAL, picoquic_tp_initial_max_stream_data_bidi_local);
SAME_VALUE(BP_PQ_TP_BIDI_REMOTE, picoquic_tp_initial_max_stream_data_bidi_remote);
SAME_VALUE(BP_PQ_TP_UNI, picoquic_tp_initial_max_stream_data_uni);
SAME_VALUE(BP_PQ_TP_STREAMS_BIDI, picoquic_tp_initial_max_streams_bidi);
SAME_VALUE(BP_PQ_TP_STREAMS_UNI, picoquic_tp_initial_max_streams_uni);
SAME_VALUE(BP_PQ_TP_MIGRATION_DISABLED, picoquic_tp_disable_migration);
SAME_VALUE(BP_PQ_TP_PATH_ID_MAX, picoquic_tp_initial_max_path_id);
SAME_VALUE(BP_PQ_TP_RESET_STREAM_AT, picoquic_tp_reset_stream_at);

SAME_VALUE(BP_PQ_ERROR_IDLE_TIMEOUT, PICOQUIC_ERROR_IDLE_TIMEOUT);
SAME_VALUE(BP_PQ_ERROR_REPEAT_TIMEOUT, PICOQUIC_ERROR_REPEAT_TIMEOUT);
SAME_VALUE(BP_PQ_ERROR_HANDSHAKE_TIMEOUT, PICOQUIC_ERROR_HANDSHAKE_TIMEOUT);
SAME_VALUE(BP_PQ_ERROR_PATH_ID_BLOCKED, PICOQUIC_ERROR_PATH_ID_BLOCKED);
SAME_VALUE(BP_PQ_ERROR_PATH_CID_BLOCKED, PICOQUIC_ERROR_PATH_CID_BLOCKED);
SAME_VALUE(BP_PQ_ERROR_PATH_LIMIT, PICOQUIC_ERROR_PATH_LIMIT_EXCEEDED);

int
main(void)
{
    puts("layouts and constants agree");
    return 0;
}
