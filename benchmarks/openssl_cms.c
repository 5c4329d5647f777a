/* An enrollment with OpenSSL's CMS API, for comparison: a GET query to a CertRep.
 *
 *   openssl_cms KEY.pem CERT.pem QUERY REPLY
 *
 * Loads everything, answers once and writes the reply; then, for each number that comes as a
 * line on standard input, answers so many times and prints the CPU time that it took, in nanoseconds.
 * Checks what pyscep checks: the signature, the envelope, the CSR and its challenge (which is
 * taken from the first request). Any fault ends the program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define MUST(condition)                                                                          \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "openssl_cms.c:%d: %s\n", __LINE__, #condition);                      \
            ERR_print_errors_fp(stderr);                                                         \
            exit(1);                                                                             \
        }                                                                                        \
    } while (0)

static EVP_PKEY *key;
static X509 *certificate;
static unsigned char *query, *challenge;
static size_t query_size;
static int challenge_size;
static ASN1_OBJECT *message_type, *pki_status, *sender_nonce, *recipient_nonce, *transaction_id;

static int hex(unsigned char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* The message parameter to DER; the caller frees. */
static unsigned char *decode_query(long *size)
{
    unsigned char *text = malloc(query_size + 1), *der = malloc(query_size);
    MUST(text && der);
    size_t in = 0, out = 0;
    const char *name = strstr((char *)query, "message=");
    MUST(name);
    in = (size_t)(name - (char *)query) + 8;
    while (in < query_size) {
        if (query[in] == '%' && in + 2 < query_size) {
            text[out++] = (unsigned char)(hex(query[in + 1]) << 4 | hex(query[in + 2]));
            in += 3;
        } else {
            text[out++] = query[in++];
        }
    }
    MUST(out > 0);
    int decoded = EVP_DecodeBlock(der, text, (int)out);
    MUST(decoded > 0);
    while (out > 0 && text[--out] == '=')
        decoded--;
    free(text);
    *size = decoded;
    return der;
}

static X509 *issue(X509_REQ *request)
{
    X509 *issued = X509_new();
    unsigned char serial[16];
    MUST(issued && RAND_bytes(serial, sizeof serial));
    serial[0] = 1;
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    MUST(number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(issued)));
    BN_free(number);
    MUST(X509_set_version(issued, 2));
    MUST(X509_set_subject_name(issued, X509_REQ_get_subject_name(request)));
    MUST(X509_set_issuer_name(issued, X509_get_subject_name(certificate)));
    MUST(X509_set_pubkey(issued, X509_REQ_get0_pubkey(request)));
    MUST(X509_gmtime_adj(X509_getm_notBefore(issued), 0));
    MUST(X509_gmtime_adj(X509_getm_notAfter(issued), 365L * 86400));
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    MUST(constraints && X509_add1_ext_i2d(issued, NID_basic_constraints, constraints, 1, 0));
    BASIC_CONSTRAINTS_free(constraints);
    MUST(X509_sign(issued, key, EVP_sha256()));
    return issued;
}

static BIO *certificates_only(X509 *issued)
{
    PKCS7 *bag = PKCS7_new();
    BIO *out = BIO_new(BIO_s_mem());
    MUST(bag && out && PKCS7_set_type(bag, NID_pkcs7_signed));
    MUST(PKCS7_content_new(bag, NID_pkcs7_data) && PKCS7_set_detached(bag, 1));
    MUST(PKCS7_add_certificate(bag, issued) && i2d_PKCS7_bio(out, bag));
    PKCS7_free(bag);
    return out;
}

static void add(CMS_SignerInfo *signer, ASN1_OBJECT *type, int tag, const void *data, int size)
{
    MUST(CMS_signed_add1_attr_by_OBJ(signer, type, tag, data, size));
}

/* One enrollment; returns the size of the CertRep in *reply, which the caller frees. */
static int enroll(unsigned char **reply)
{
    long size;
    unsigned char *der = decode_query(&size);
    const unsigned char *at = der;
    CMS_ContentInfo *message = d2i_CMS_ContentInfo(NULL, &at, size);
    BIO *content = BIO_new(BIO_s_mem()), *plain = BIO_new(BIO_s_mem());
    MUST(message && content && plain);
    MUST(CMS_verify(message, NULL, NULL, NULL, content, CMS_NO_SIGNER_CERT_VERIFY | CMS_BINARY));
    CMS_SignerInfo *info = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(message), 0);
    ASN1_STRING *type =
        CMS_signed_get0_data_by_OBJ(info, message_type, -3, V_ASN1_PRINTABLESTRING);
    ASN1_STRING *id =
        CMS_signed_get0_data_by_OBJ(info, transaction_id, -3, V_ASN1_PRINTABLESTRING);
    ASN1_STRING *nonce = CMS_signed_get0_data_by_OBJ(info, sender_nonce, -3, V_ASN1_OCTET_STRING);
    MUST(type && id && nonce && ASN1_STRING_length(type) == 2);
    MUST(memcmp(ASN1_STRING_get0_data(type), "19", 2) == 0);
    STACK_OF(X509) *signers = CMS_get0_signers(message);
    MUST(signers && sk_X509_num(signers) == 1);

    CMS_ContentInfo *envelope = d2i_CMS_bio(content, NULL);
    MUST(envelope && CMS_decrypt(envelope, key, certificate, NULL, plain, CMS_BINARY));
    X509_REQ *request = d2i_X509_REQ_bio(plain, NULL);
    MUST(request && X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) == 1);
    int place = X509_REQ_get_attr_by_NID(request, NID_pkcs9_challengePassword, -1);
    MUST(place >= 0);
    ASN1_TYPE *word = X509_ATTRIBUTE_get0_type(X509_REQ_get_attr(request, place), 0);
    MUST(word);
    ASN1_STRING *text = word->value.asn1_string;
    if (!challenge) {
        challenge_size = ASN1_STRING_length(text);
        challenge = malloc((size_t)challenge_size);
        MUST(challenge);
        memcpy(challenge, ASN1_STRING_get0_data(text), (size_t)challenge_size);
    }
    MUST(ASN1_STRING_length(text) == challenge_size);
    MUST(CRYPTO_memcmp(ASN1_STRING_get0_data(text), challenge, (size_t)challenge_size) == 0);

    X509 *issued = issue(request);
    BIO *bag = certificates_only(issued), *sealed = BIO_new(BIO_s_mem());
    CMS_ContentInfo *closed = CMS_encrypt(signers, bag, EVP_aes_128_cbc(), CMS_BINARY);
    MUST(sealed && closed && i2d_CMS_bio(sealed, closed));

    CMS_ContentInfo *answer = CMS_sign(NULL, NULL, NULL, NULL, CMS_PARTIAL | CMS_BINARY);
    MUST(answer);
    CMS_SignerInfo *own = CMS_add1_signer(answer, certificate, key, EVP_sha256(),
                                          CMS_PARTIAL | CMS_BINARY | CMS_NOSMIMECAP);
    MUST(own);
    unsigned char fresh[16];
    MUST(RAND_bytes(fresh, sizeof fresh));
    add(own, message_type, V_ASN1_PRINTABLESTRING, "3", 1);
    add(own, pki_status, V_ASN1_PRINTABLESTRING, "0", 1);
    add(own, transaction_id, V_ASN1_PRINTABLESTRING, ASN1_STRING_get0_data(id),
        ASN1_STRING_length(id));
    add(own, sender_nonce, V_ASN1_OCTET_STRING, fresh, sizeof fresh);
    add(own, recipient_nonce, V_ASN1_OCTET_STRING, ASN1_STRING_get0_data(nonce),
        ASN1_STRING_length(nonce));
    MUST(CMS_final(answer, sealed, NULL, CMS_BINARY));
    *reply = NULL;
    int length = i2d_CMS_ContentInfo(answer, reply);
    MUST(length > 0);

    CMS_ContentInfo_free(answer);
    CMS_ContentInfo_free(closed);
    CMS_ContentInfo_free(envelope);
    CMS_ContentInfo_free(message);
    BIO_free(sealed);
    BIO_free(bag);
    BIO_free(plain);
    BIO_free(content);
    X509_free(issued);
    X509_REQ_free(request);
    sk_X509_free(signers);
    free(der);
    return length;
}

static unsigned char *read_file(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    MUST(file && fseek(file, 0, SEEK_END) == 0);
    long length = ftell(file);
    MUST(length > 0);
    rewind(file);
    unsigned char *data = malloc((size_t)length + 1);
    MUST(data && fread(data, 1, (size_t)length, file) == (size_t)length);
    data[length] = 0;
    fclose(file);
    *size = (size_t)length;
    return data;
}

int main(int count, char **words)
{
    MUST(count == 5);
    BIO *file = BIO_new_file(words[1], "rb");
    MUST(file && (key = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL)));
    BIO_free(file);
    file = BIO_new_file(words[2], "rb");
    MUST(file && (certificate = PEM_read_bio_X509(file, NULL, NULL, NULL)));
    BIO_free(file);
    query = read_file(words[3], &query_size);
    message_type = OBJ_txt2obj("2.16.840.1.113733.1.9.2", 1);
    pki_status = OBJ_txt2obj("2.16.840.1.113733.1.9.3", 1);
    sender_nonce = OBJ_txt2obj("2.16.840.1.113733.1.9.5", 1);
    recipient_nonce = OBJ_txt2obj("2.16.840.1.113733.1.9.6", 1);
    transaction_id = OBJ_txt2obj("2.16.840.1.113733.1.9.7", 1);

    unsigned char *reply;
    int size = enroll(&reply);
    FILE *out = fopen(words[4], "wb");
    MUST(out && fwrite(reply, 1, (size_t)size, out) == (size_t)size && fclose(out) == 0);
    OPENSSL_free(reply);
    printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
    fflush(stdout);

    long times;
    while (scanf("%ld", &times) == 1) {
        struct timespec start, end;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        for (long done = 0; done < times; done++) {
            enroll(&reply);
            OPENSSL_free(reply);
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        printf("%lld\n", (long long)(end.tv_sec - start.tv_sec) * 1000000000LL +
                             (end.tv_nsec - start.tv_nsec));
        fflush(stdout);
    }
    return 0;
}
