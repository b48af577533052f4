// The door of dhcp/: a DHCP and BOOTP server for guests that the model knows.
//
// server.h decides what to answer and knows no sockets; socket.h is the wire of
// one bridge. frame.h and packet.h are the formats underneath.
#pragma once

#include "dhcp/server.h"
#include "dhcp/socket.h"
