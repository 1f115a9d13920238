// libxml2's SAX2 interface, cut down to what CloudMountXML needs. Variadic error callbacks cannot be written in Swift, and
// macros are not imported, so the table of callbacks is filled here.
#ifndef CLOUDMOUNT_CXML2_SHIM_H
#define CLOUDMOUNT_CXML2_SHIM_H
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <string.h>

// The callbacks take what the handler needs and no more; each returns 0 to go on and anything else to stop.
typedef struct {
    // The namespace is of no characters where there is none; `declared` are those that the tag declares.
    int (*start)(void *context, const unsigned char *name, size_t count, const unsigned char *space, size_t length, int declared);
    int (*end)(void *context, const unsigned char *name, size_t count, const unsigned char *space, size_t length);
    int (*text)(void *context, const unsigned char *bytes, size_t count);
    void *context;
    // Out: the document has a DOCTYPE.
    int doctype;
    // Out: a callback asked to stop, or a namespace is longer than any.
    int stopped;
    // libxml2's number of the fault after which the parser was stopped.
    int fault;
    // Errors in namespaces so far.
    int namespace_errors;
    xmlParserCtxtPtr parser;
} cm_xml_callbacks;

// The parser goes on after a fault, and tells of it by no callback but the next: no element of a broken document is handed on.
static inline int cm_xml_ended(cm_xml_callbacks *callbacks) {
    if (callbacks->stopped) return 1;
    if (callbacks->parser->wellFormed) return 0;
    if (callbacks->fault == 0) callbacks->fault = callbacks->parser->errNo;
    xmlStopParser(callbacks->parser);
    return 1;
}

static inline void cm_xml_stop(cm_xml_callbacks *callbacks) {
    if (callbacks->stopped) return;
    callbacks->stopped = 1;
    xmlStopParser(callbacks->parser);
}

// A namespace is inherited by all that it encloses, so its length is asked at each tag: a long one would cost the square of the document.
// 0 when it is too long.
static inline int cm_xml_space(const xmlChar *uri, size_t *length) {
    *length = uri == NULL ? 0 : strnlen((const char *)uri, 257);
    return *length <= 256;
}

static void cm_xml_start(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int namespaces,
                         const xmlChar **namespace_list, int attributes, int defaulted, const xmlChar **attribute_list) {
    cm_xml_callbacks *callbacks = (cm_xml_callbacks *)user;
    (void)prefix; (void)namespace_list;
    (void)attributes; (void)defaulted; (void)attribute_list;
    if (cm_xml_ended(callbacks)) return;
    size_t length;
    if (!cm_xml_space(uri, &length)
        || callbacks->start(callbacks->context, name, strlen((const char *)name), uri, length, namespaces) != 0) {
        cm_xml_stop(callbacks);
    }
}

static void cm_xml_end(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri) {
    cm_xml_callbacks *callbacks = (cm_xml_callbacks *)user;
    (void)prefix;
    if (cm_xml_ended(callbacks)) return;
    size_t length;
    if (!cm_xml_space(uri, &length)
        || callbacks->end(callbacks->context, name, strlen((const char *)name), uri, length) != 0) {
        cm_xml_stop(callbacks);
    }
}

static void cm_xml_text(void *user, const xmlChar *bytes, int count) {
    cm_xml_callbacks *callbacks = (cm_xml_callbacks *)user;
    if (cm_xml_ended(callbacks)) return;
    if (callbacks->text(callbacks->context, bytes, (size_t)count) != 0) cm_xml_stop(callbacks);
}

// A document type is where entities, and with them expansion bombs and outside fetches, are declared: none is read.
static void cm_xml_doctype(void *user, const xmlChar *name, const xmlChar *external, const xmlChar *system) {
    cm_xml_callbacks *callbacks = (cm_xml_callbacks *)user;
    (void)name; (void)external; (void)system;
    callbacks->doctype = 1;
    cm_xml_stop(callbacks);
}

// A document whose namespaces are wrong is well-formed, and read: each error is put into words, whoever listens, which takes the length of what it
// names. One that is full of them ends. Others, such as a namespace that is no URI, cost no more than they take in the document.
#if LIBXML_VERSION >= 21200
static void cm_xml_error(void *user, const xmlError *error) {
#else
static void cm_xml_error(void *user, xmlErrorPtr error) {
#endif
    cm_xml_callbacks *callbacks = (cm_xml_callbacks *)user;
    if (error->domain != XML_FROM_NAMESPACE) return;
    if (error->code != XML_NS_ERR_UNDEFINED_NAMESPACE && error->code != XML_NS_ERR_ATTRIBUTE_REDEFINED) return;
    if (++callbacks->namespace_errors > 10000) cm_xml_stop(callbacks);
}

// Some faults libxml2 tells past the parser's options, on standard error, which is the log's.
static void cm_xml_quiet(void *context, const char *message, ...) {
    (void)context; (void)message;
}

typedef struct {
    const char *bytes;
    int count;
    int offset;
    cm_xml_callbacks *callbacks;
} cm_xml_input;

// After a fault there is nothing more to read: libxml2 would look at each byte that is left, and call nobody who could stop it.
static int cm_xml_read(void *user, char *buffer, int length) {
    cm_xml_input *input = (cm_xml_input *)user;
    cm_xml_callbacks *callbacks = input->callbacks;
    if (callbacks->stopped) return 0;
    if (callbacks->parser != NULL && !callbacks->parser->wellFormed) {
        if (callbacks->fault == 0) callbacks->fault = callbacks->parser->errNo;
        return 0;
    }
    int left = input->count - input->offset;
    int count = length < left ? length : left;
    memcpy(buffer, input->bytes + input->offset, (size_t)count);
    input->offset += count;
    return count;
}

// 0 when the document was well-formed to its end, else libxml2's number of the first fault. The bytes are taken for UTF-8, whatever they say.
static inline int cm_xml_parse(const char *bytes, int count, cm_xml_callbacks *callbacks) {
    if (count <= 0) return XML_ERR_DOCUMENT_EMPTY;
    // Of this thread.
    xmlSetGenericErrorFunc(NULL, cm_xml_quiet);
    cm_xml_input input = {bytes, count, 0, callbacks};
    xmlParserCtxtPtr parser =
        xmlCreateIOParserCtxt(NULL, NULL, cm_xml_read, NULL, &input, XML_CHAR_ENCODING_UTF8);
    if (parser == NULL) return XML_ERR_NO_MEMORY;
    memset(parser->sax, 0, sizeof(xmlSAXHandler));
    parser->sax->initialized = XML_SAX2_MAGIC;
    parser->sax->startElementNs = cm_xml_start;
    parser->sax->endElementNs = cm_xml_end;
    parser->sax->characters = cm_xml_text;
    parser->sax->cdataBlock = cm_xml_text;
    parser->sax->ignorableWhitespace = cm_xml_text;
    parser->sax->internalSubset = cm_xml_doctype;
    // After a fault libxml2 reads on to the end, and without RECOVER calls nobody who could stop it.
    xmlCtxtUseOptions(
        parser, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_IGNORE_ENC | XML_PARSE_RECOVER);
    parser->sax->serror = cm_xml_error;
    callbacks->parser = parser;
    parser->userData = callbacks;
    int result = xmlParseDocument(parser);
    int code = parser->wellFormed && result == 0 ? 0 : parser->errNo != 0 ? parser->errNo : XML_ERR_INTERNAL_ERROR;
    if (callbacks->fault != 0) code = callbacks->fault;
    callbacks->parser = NULL;
    if (parser->myDoc != NULL) xmlFreeDoc(parser->myDoc);
    xmlFreeParserCtxt(parser);
    return code;
}
#endif
