// The door of tftp/: files for machines that boot from the network, read-only. A library: role/
// runs it, with a directory and sockets that host/ had opened.
#pragma once

#include "tftp/files.h"
#include "tftp/server.h"
#include "tftp/socket.h"
