// libcurl's variadic functions, one inline function for each type of argument. Imported by CloudMountHTTP alone.
#ifndef CLOUDMOUNT_CCURL_SHIM_H
#define CLOUDMOUNT_CCURL_SHIM_H
#include <curl/curl.h>

static inline CURLcode cm_easy_set_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode cm_easy_set_offset(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode cm_easy_set_string(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode cm_easy_set_pointer(CURL *easy, CURLoption option, void *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode cm_easy_set_headers(CURL *easy, struct curl_slist *list) {
    return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
}
static inline CURLcode cm_easy_set_share(CURL *easy, CURLSH *share) {
    return curl_easy_setopt(easy, CURLOPT_SHARE, share);
}

static inline void cm_easy_on_header(CURL *easy, curl_write_callback callback, void *user) {
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, callback);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, user);
}
static inline void cm_easy_on_write(CURL *easy, curl_write_callback callback, void *user) {
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, callback);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, user);
}
static inline void cm_easy_on_read(CURL *easy, curl_read_callback callback, void *user) {
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, callback);
    curl_easy_setopt(easy, CURLOPT_READDATA, user);
}
static inline void cm_easy_on_seek(CURL *easy, curl_seek_callback callback, void *user) {
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, callback);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, user);
}
static inline void cm_easy_on_request(CURL *easy, curl_prereq_callback callback, void *user) {
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, callback);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, user);
}
static inline void cm_easy_on_socket(
    CURL *easy, curl_opensocket_callback opens, curl_closesocket_callback closes, void *user) {
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, opens);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, user);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, closes);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, user);
}

static inline long cm_easy_long(CURL *easy, CURLINFO info) {
    long value = 0;
    curl_easy_getinfo(easy, info, &value);
    return value;
}
static inline curl_off_t cm_easy_offset(CURL *easy, CURLINFO info) {
    curl_off_t value = 0;
    curl_easy_getinfo(easy, info, &value);
    return value;
}
static inline curl_socket_t cm_easy_socket(CURL *easy) {
    curl_socket_t value = CURL_SOCKET_BAD;
    curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &value);
    return value;
}
static inline const char *cm_easy_string(CURL *easy, CURLINFO info) {
    char *value = NULL;
    curl_easy_getinfo(easy, info, &value);
    return value;
}
static inline void *cm_easy_user(CURL *easy) {
    char *value = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &value);
    return value;
}

static inline CURLMcode cm_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}
static inline void cm_multi_on_socket(CURLM *multi, curl_socket_callback callback, void *user) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, callback);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, user);
}
static inline void cm_multi_on_timer(CURLM *multi, curl_multi_timer_callback callback, void *user) {
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, callback);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, user);
}

static inline CURLSHcode cm_share_sessions(CURLSH *share) {
    return curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
}
#endif
