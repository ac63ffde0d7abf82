#include "sealed.h"

#include <picoquic.h>
#include <picoquic_internal.h>
#include <string.h>

#include "check.h"
#include "quic/internal.h"

size_t
sealed_packet(bp_engine_t *engine, uint64_t handle, const uint8_t *frames, size_t length,
              uint8_t datagram[SEALED_BYTES_MAX])
{
    uint8_t plain[SEALED_BYTES_MAX] = {0};
    const bp_connection_t *connection = bp_connection_find(engine, handle);
    picoquic_cnx_t *cnx = connection == NULL ? NULL : (picoquic_cnx_t *)connection->cnx;
    if (cnx == NULL || length == 0 ||
        cnx->crypto_context[picoquic_epoch_1rtt].aead_encrypt == NULL) {
        return 0;
    }
    CHECK(length <= SEALED_FRAMES_MAX);
    picoquic_packet_context_t *context =
        cnx->is_multipath_enabled ? &cnx->path[0]->pkt_ctx
                                  : &cnx->pkt_ctx[picoquic_packet_context_application];
    size_t header =
        picoquic_predict_packet_header_length(cnx, picoquic_packet_1rtt_protected, context);
    memcpy(plain + header, frames, length);
    return picoquic_protect_packet(
        cnx, picoquic_packet_1rtt_protected, plain, context->send_sequence++, header + length,
        header, datagram, SEALED_BYTES_MAX,
        cnx->crypto_context[picoquic_epoch_1rtt].aead_encrypt,
        cnx->crypto_context[picoquic_epoch_1rtt].pn_enc, cnx->path[0], NULL, engine->now_us);
}
