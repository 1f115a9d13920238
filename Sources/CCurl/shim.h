#ifndef CLOUDMOUNT_CCURL_SHIM_H
#define CLOUDMOUNT_CCURL_SHIM_H
#include <curl/curl.h>
#endif
