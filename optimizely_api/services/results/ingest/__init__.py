"""Takes the events of SDKs: parsed, admitted, stored in groups, and rolled up."""
