// The door of ipv6/: what guests of one bridge are told of IPv6, by router advertisements and by
// DHCPv6. A library: role/ runs it, with sockets that host/ had opened.
#pragma once

#include "ipv6/event.h"
#include "ipv6/server.h"
#include "ipv6/socket.h"
