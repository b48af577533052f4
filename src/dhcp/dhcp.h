// The door of dhcp/: a DHCP and BOOTP server for guests that the model knows, and for others as far
// as it is given ranges of addresses.
//
// server.h decides what to answer and knows no sockets; socket.h is the wire of
// one bridge; ledger.h has leases written down. network.h is what a server is told, pool.h who has
// which address of a range. frame.h and packet.h are the formats underneath.
#pragma once

#include "dhcp/server.h"
#include "dhcp/socket.h"
