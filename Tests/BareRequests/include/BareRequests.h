#ifndef BARE_REQUESTS_H
#define BARE_REQUESTS_H

enum bare_verb { BARE_GET, BARE_HEAD, BARE_PUT };

/// The same requests over and over, from one libcurl multi handle on the calling thread: what libcurl alone costs.
struct bare_requests {
    enum bare_verb verb;
    /// Of one object. A PUT adds the number of the request.
    const char *url;
    /// Lines as libcurl takes them, sent with every request.
    const char *const *headers;
    int header_count;
    /// Bytes of each answer, at random places of the object, or of each PUT.
    long size;
    long object_size;
    /// Requests at a time, each on a connection of its own.
    int width;
};

/// Handles and connections that are kept from one run to the next. Null when there is no memory.
struct bare_loop *bare_open(const struct bare_requests *requests);

/// Makes `count` requests.
/// - Returns: 0, or libcurl's code or the HTTP status of the first that failed.
long bare_run(struct bare_loop *loop, long count);

void bare_close(struct bare_loop *loop);

#endif
