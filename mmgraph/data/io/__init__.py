"""Readers and writers of multimodal data: arrays, tables, files and folders."""
