#include "BareRequests.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct handle {
    CURL *easy;
    char *buffer;
    long filled;
    long size;
};

struct bare_loop {
    struct bare_requests requests;
    CURLM *multi;
    struct curl_slist *headers;
    struct handle *handles;
    char *content;
    int poller;
    long timer, started, wanted, failure;
    unsigned long seed;
};

static size_t take(char *bytes, size_t unit, size_t count, void *user) {
    struct handle *handle = user;
    size_t size = unit * count;
    if (handle->filled + (long)size > handle->size) return 0;
    memcpy(handle->buffer + handle->filled, bytes, size);
    handle->filled += size;
    return size;
}

static size_t takeHeader(char *bytes, size_t unit, size_t count, void *user) {
    (void)bytes, (void)user;
    return unit * count;
}

static int watch(CURL *easy, curl_socket_t socket, int what, void *user, void *known) {
    (void)easy;
    struct bare_loop *loop = user;
    struct epoll_event event = {0};
    event.data.fd = socket;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(loop->poller, EPOLL_CTL_DEL, socket, &event);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    epoll_ctl(loop->poller, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event);
    curl_multi_assign(loop->multi, socket, loop);
    return 0;
}

static int setTimer(CURLM *multi, long milliseconds, void *user) {
    (void)multi;
    ((struct bare_loop *)user)->timer = milliseconds;
    return 0;
}

static void start(struct bare_loop *loop, struct handle *handle) {
    char text[512];
    long number = loop->started++;
    handle->filled = 0;
    if (loop->requests.verb == BARE_PUT) {
        snprintf(text, sizeof text, "%s%ld", loop->requests.url, number);
        curl_easy_setopt(handle->easy, CURLOPT_URL, text);
    } else {
        curl_easy_setopt(handle->easy, CURLOPT_URL, loop->requests.url);
    }
    if (loop->requests.verb == BARE_GET) {
        loop->seed = loop->seed * 6364136223846793005 + 1442695040888963407;
        long from = (long)(loop->seed >> 33) % (loop->requests.object_size / loop->requests.size) * loop->requests.size;
        snprintf(text, sizeof text, "%ld-%ld", from, from + loop->requests.size - 1);
        curl_easy_setopt(handle->easy, CURLOPT_RANGE, text);
    }
    curl_multi_add_handle(loop->multi, handle->easy);
}

struct bare_loop *bare_open(const struct bare_requests *requests) {
    struct bare_loop *loop = calloc(1, sizeof *loop);
    if (!loop) return NULL;
    loop->requests = *requests;
    loop->timer = -1;
    loop->multi = curl_multi_init();
    loop->poller = epoll_create1(EPOLL_CLOEXEC);
    loop->handles = calloc(requests->width, sizeof *loop->handles);
    loop->content = malloc(requests->size);
    if (!loop->multi || !loop->handles || !loop->content) return NULL;
    memset(loop->content, 'x', requests->size);
    curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, watch);
    curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop);
    curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, setTimer);
    curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop);
    curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, (long)requests->width * 2);
    for (int i = 0; i < requests->header_count; i++)
        loop->headers = curl_slist_append(loop->headers, requests->headers[i]);
    if (requests->verb == BARE_PUT) loop->headers = curl_slist_append(loop->headers, "Content-Type:");
    for (int i = 0; i < requests->width; i++) {
        struct handle *handle = &loop->handles[i];
        handle->easy = curl_easy_init();
        handle->buffer = malloc(requests->size);
        if (!handle->easy || !handle->buffer) return NULL;
        handle->size = requests->size;
        curl_easy_setopt(handle->easy, CURLOPT_PRIVATE, handle);
        curl_easy_setopt(handle->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(handle->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(handle->easy, CURLOPT_WRITEFUNCTION, take);
        curl_easy_setopt(handle->easy, CURLOPT_WRITEDATA, handle);
        curl_easy_setopt(handle->easy, CURLOPT_HEADERFUNCTION, takeHeader);
        curl_easy_setopt(handle->easy, CURLOPT_HTTPHEADER, loop->headers);
        if (requests->verb == BARE_HEAD) curl_easy_setopt(handle->easy, CURLOPT_NOBODY, 1L);
        if (requests->verb == BARE_PUT) {
            curl_easy_setopt(handle->easy, CURLOPT_POST, 1L);
            curl_easy_setopt(handle->easy, CURLOPT_CUSTOMREQUEST, "PUT");
            curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDSIZE, requests->size);
            curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDS, loop->content);
        }
    }
    return loop;
}

/// Takes what has ended, and starts the next in its place.
static int reap(struct bare_loop *loop) {
    int ended = 0, left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(loop->multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        CURL *easy = message->easy_handle;
        struct handle *handle;
        long status = 0, code = message->data.result;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&handle);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (!code && (status < 200 || status > 299)) code = status;
        if (code && !loop->failure) loop->failure = code;
        curl_multi_remove_handle(loop->multi, easy);
        ended++;
        if (loop->started < loop->wanted && !loop->failure) start(loop, handle);
    }
    return ended;
}

long bare_run(struct bare_loop *loop, long count) {
    struct epoll_event events[64];
    int running, active = 0;
    loop->started = 0;
    loop->wanted = count;
    loop->failure = 0;
    long done = 0;
    for (; active < loop->requests.width && active < count; active++) start(loop, &loop->handles[active]);
    while (done < loop->started) {
        if (loop->timer == 0) {
            loop->timer = -1;
            curl_multi_socket_action(loop->multi, CURL_SOCKET_TIMEOUT, 0, &running);
            done += reap(loop);
            continue;
        }
        int ready = epoll_wait(loop->poller, events, 64, (int)loop->timer);
        if (ready == 0) loop->timer = 0;
        for (int i = 0; i < ready; i++) {
            int what = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
                       (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0);
            curl_multi_socket_action(loop->multi, events[i].data.fd, what, &running);
        }
        done += reap(loop);
    }
    return loop->failure;
}

void bare_close(struct bare_loop *loop) {
    for (int i = 0; i < loop->requests.width; i++) {
        curl_easy_cleanup(loop->handles[i].easy);
        free(loop->handles[i].buffer);
    }
    curl_multi_cleanup(loop->multi);
    curl_slist_free_all(loop->headers);
    close(loop->poller);
    free(loop->handles);
    free(loop->content);
    free(loop);
}
