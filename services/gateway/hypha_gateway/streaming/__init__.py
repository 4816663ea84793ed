"""The HTTP streaming transport (contract 01 §1.13): frames to the client on one long GET, frames from it by POST."""
