// Why connections ended, in words.

export const END_REASONS = {
  "client-closed": "the bot closed it",
  "backend-closed": "the node closed it",
  "client-timeout": "the bot was silent, or did not read, for too long",
  "backend-timeout": "the node was silent for too long",
  "client-reset": "the bot reset it",
  "backend-reset": "the node reset it",
  "rejected-limit": "the limit of connections was reached",
  "rejected-threads": "no thread could be started",
  "rejected-password": "the password was missing or wrong",
  "rejected-version": "no node has this version of Lavalink",
  "backend-unreachable": "the node accepted no connection",
  "bad-request": "the bot broke the protocol",
  "bad-response": "the node broke the protocol",
  shutdown: "the proxy stopped",
  "rejected-connections": "the address had its limit of connections open",
  "rejected-connection-rate": "the address opened connections too fast",
  "rejected-request-rate": "the address sent requests too fast",
  "rejected-banned": "the address is banned, blocked or not allowed",
  "rejected-account": "the account is over its limits, expired, disabled, or not for this version",
  kicked: "the address was banned by hand, or the account taken away",
  "internal-error": "a defect in lavaproxy",
};

// All others point at a problem.
export const NORMAL_ENDS = ["client-closed", "backend-closed", "shutdown"];
