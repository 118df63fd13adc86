"""The zoo: small configurations of many architectures, profiled in inference and training and checked to the byte."""
