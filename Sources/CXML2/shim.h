#ifndef CLOUDMOUNT_CXML2_SHIM_H
#define CLOUDMOUNT_CXML2_SHIM_H
#include <libxml/parser.h>
#endif
