#include "certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

static char folder[] = "/tmp/barrel-test-XXXXXX";
static char certificate_path[64];
static char key_path[64];

static void
remove_files(void)
{
    (void)unlink(certificate_path);
    (void)unlink(key_path);
    (void)rmdir(folder);
}

static X509 *
sign_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    CHECK(certificate != NULL);
    CHECK(X509_set_version(certificate, 2) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test",
                                     -1, -1, 0) == 1);
    CHECK(X509_set_issuer_name(certificate, name) == 1);
    CHECK(X509_set_pubkey(certificate, key) == 1);
    CHECK(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void
make_files(void)
{
    if (certificate_path[0] != '\0') {
        return;
    }
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s/certificate.pem", folder);
    (void)snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
    CHECK(atexit(remove_files) == 0);

    EVP_PKEY *key = EVP_EC_gen("P-256");
    CHECK(key != NULL);
    X509 *certificate = sign_certificate(key);
    FILE *file = fopen(certificate_path, "w");
    CHECK(file != NULL && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
    file = fopen(key_path, "w");
    CHECK(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 &&
          fclose(file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

const char *
bp_test_certificate(void)
{
    make_files();
    return certificate_path;
}

const char *
bp_test_key(void)
{
    make_files();
    return key_path;
}
