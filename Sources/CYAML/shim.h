#ifndef CLOUDMOUNT_CYAML_SHIM_H
#define CLOUDMOUNT_CYAML_SHIM_H
#include <yaml.h>
#endif
