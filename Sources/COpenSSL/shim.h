// The hashes and keys of OpenSSL's libcrypto. Imported by CloudMountCrypto alone.
//
// Of its two interfaces this is the older one: it works on plain structures and cannot fail. The newer one (EVP) allocates for
// every hash, and refuses some by the machine's settings; see docs/decisions/009. It is here for keys alone.
#ifndef CLOUDMOUNT_COPENSSL_SHIM_H
#define CLOUDMOUNT_COPENSSL_SHIM_H
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/md5.h>
#include <openssl/sha.h>
#endif
